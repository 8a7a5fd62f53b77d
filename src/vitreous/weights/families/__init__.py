"""One file for each origin of weights: what its files look like, what they leave out, and how names correspond."""
