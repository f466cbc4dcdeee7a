"""The foundation of every primitive: time, the registry, interrupts, and the graph of which thread waits for which."""
