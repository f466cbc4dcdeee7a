"""What every primitive is built on: time, the registry, interrupts, and the graph of who waits for whom."""
