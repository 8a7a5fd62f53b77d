"""Functions that return a complete RunConfig."""
