"""The former name of the package ``feast_asof``, for configurations that hold it."""
