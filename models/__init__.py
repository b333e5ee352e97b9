"""What learns: networks, losses, the learner, checkpoints. torch and projects/ only; no dagster, feast, polars."""
