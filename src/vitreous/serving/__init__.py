"""HTTP: requests to a Predictor, in batches, within limits; and the page of all runs."""
