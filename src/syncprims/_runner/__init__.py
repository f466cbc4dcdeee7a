"""`OrderedRunner`: the runner, its steps, and one pass through the order."""
