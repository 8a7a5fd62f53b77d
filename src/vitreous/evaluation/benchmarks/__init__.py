"""Benchmarks on the user's own copies: ImageNet's other test sets, and VTAB-1k."""
