"""What is said: declarations of streams, feature views, teachers and students. Plain typed Python, no heavy import."""
