"""What runs: Dagster's partitions, assets, checks and automation, and the plain functions they call."""

import os

from models.threads import bound_spin

bound_spin(os.environ)  # here: a process imports this package before torch, however it was started
