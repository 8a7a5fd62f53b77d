"""Models for other programs: exported, with a proof."""
