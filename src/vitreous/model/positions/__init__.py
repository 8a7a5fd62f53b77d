"""Positions of patches: embeddings added to tokens, biases of attention, rotations, and how their grids are resized."""
