"""The HTTP service: requests to a Predictor, in batches, within limits."""
