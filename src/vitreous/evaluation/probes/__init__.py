"""What frozen features are worth: linear, few-shot and k-nearest-neighbour probes, and CKA between models."""
