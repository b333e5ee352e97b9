"""What runs: Dagster's partitions, assets, checks and automation, and the plain functions they call."""
