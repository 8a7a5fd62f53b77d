"""The value of frozen features: linear, few-shot and k-nearest-neighbour probes, and CKA between models."""
