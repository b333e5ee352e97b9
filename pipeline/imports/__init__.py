"""Logs of other shapes: their files found, read, converted and kept as the canonical log."""
