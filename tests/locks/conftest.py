"""The files of this folder that are not tests."""

# Programs that replace the C lock by a model when they start: collecting doctests must not import them.
collect_ignore = ["explore_calls.py", "explore_locks.py", "explore_shared.py"]
