"""What of this folder is no test."""

# A program that puts a model in the place of the C lock as it starts: collecting doctests must not import it.
collect_ignore = ["explore_locks.py"]
