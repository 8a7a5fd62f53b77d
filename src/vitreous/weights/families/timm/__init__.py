"""timm's models: plain, hybrid, EVA, rotary and relative ones."""
