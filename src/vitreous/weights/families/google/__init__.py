"""The checkpoints of Google Research: ViT, its hybrids, and BiT."""
