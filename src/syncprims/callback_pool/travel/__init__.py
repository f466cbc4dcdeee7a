"""What a call needs on its way to another process or interpreter, and back."""
