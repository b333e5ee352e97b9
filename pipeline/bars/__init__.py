"""Fixed splits: their files read, a network trained on them, its figures beside the published ones."""
