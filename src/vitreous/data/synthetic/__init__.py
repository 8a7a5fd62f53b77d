"""Labelled images drawn from formulas."""
