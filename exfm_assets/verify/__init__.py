"""What checks look at: plain functions over stored slices that give a finding, and know nothing of Dagster."""
