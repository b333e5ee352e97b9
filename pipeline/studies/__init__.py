"""Questions that take a walk of their own over all slices, in memory."""
