"""The request log of ``exfm serve``, read back: which files, their rows, and features as they were served."""
