"""vitreous: Vision Transformers, whole."""
