"""Weights on disk: read without running anyone's code, written atomically."""
