"""Pixels to logits: single-device mathematics, no files, no distributed code."""
