"""What of this folder is no test."""

# Programs that put a model in the place of the C lock as they start: collecting doctests must not import them.
collect_ignore = ["explore_calls.py", "explore_locks.py", "explore_shared.py"]
