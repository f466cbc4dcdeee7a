"""What of this folder are no tests: the pages' examples are, the programs that build and draw them aren't."""

collect_ignore = ["_build", "conf.py", "diagrams/draw.py"]
