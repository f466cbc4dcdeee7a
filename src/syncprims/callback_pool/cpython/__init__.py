"""Workarounds for bugs of CPython, one in each file."""
