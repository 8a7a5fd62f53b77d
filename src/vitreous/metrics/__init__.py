"""Numbers from logits, labels and seeds, each defined in its docstring."""
