"""Pages of runs, evaluations and explanations."""
