"""A Feast offline store that joins as of a moment, in DuckDB. It knows nothing of teachers and students."""
