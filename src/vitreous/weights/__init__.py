"""Weights: the model folder, and other code bases' files, which are read without running anyone's code."""
