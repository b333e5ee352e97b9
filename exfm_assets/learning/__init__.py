"""Walking the slices: what is loaded, scored, learned, evaluated and released, in which order."""
