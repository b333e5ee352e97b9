"""A slice as models read it: inputs, labels, teacher predictions."""
