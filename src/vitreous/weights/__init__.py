"""Weights: the model folder, and other code bases' files, read without running anyone's code."""
