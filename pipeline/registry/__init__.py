"""Checkpoints: what they are made of, where they lie, which are kept."""
