"""The files of this folder that are not tests."""

# A program that replaces parts of the library when it starts: collecting doctests must not import it.
collect_ignore = ["explore_runner.py"]
