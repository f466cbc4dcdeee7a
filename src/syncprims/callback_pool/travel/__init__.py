"""The way of a call to another process or interpreter, and back."""
