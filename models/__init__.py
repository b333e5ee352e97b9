"""What learns: networks, losses, the learner and its checkpoints. torch and projects/ only; no dagster, feast, polars."""
