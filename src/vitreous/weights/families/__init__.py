"""One file for each origin of weights: what its files look like, what they leave unsaid, and how names correspond."""
