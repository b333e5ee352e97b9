"""A Feast offline store that joins as of a moment. It stands alone: nothing of exfm is imported here."""
