"""How well what served has predicted: metrics by slice, summary."""
