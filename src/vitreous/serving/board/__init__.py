"""The page of all runs under a folder, which follows those that are training."""
