"""How good is it: metrics and the report."""
