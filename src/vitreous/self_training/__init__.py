"""Self-training: a teacher labels images without labels, and a student learns from them too."""
