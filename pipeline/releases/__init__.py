"""What is served: publishing a checkpoint, and mending what was published."""
