"""Export models for other programs, with a numeric proof."""
