"""May a checkpoint be released? Which one is the candidate, on which rows it is judged, and publishing it."""
