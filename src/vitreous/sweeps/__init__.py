"""Runs over any settings and seeds, compared."""
