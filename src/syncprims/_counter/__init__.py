"""`AtomicCounter`, its waits, and the code that it shares with a counter on a server."""
