"""`AtomicCounter`, how it waits, and what it shares with a counter on a server."""
