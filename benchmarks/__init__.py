"""Measurements: ratios and shares within one run, medians of several, as JSON and as a table."""
