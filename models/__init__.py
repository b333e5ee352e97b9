"""What learns: networks, losses, the learner, checkpoints. torch and exfm/ only; no dagster, feast, polars."""
