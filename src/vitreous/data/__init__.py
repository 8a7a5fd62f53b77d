"""Examples, in order."""
