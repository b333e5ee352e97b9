"""What is kept: Feast definitions made from the declaration, our offline store, leak rules. No torch, no dagster."""
