"""Logs of other shapes, read in."""
