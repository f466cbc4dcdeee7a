"""What of this folder is no test."""

# A program that replaces what the library stands on as it starts: collecting doctests must not import it.
collect_ignore = ["explore_runner.py"]
