"""Examples in their order: a pure function of seed, epoch and number, read by workers."""
