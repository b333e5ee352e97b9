"""What runs: Dagster's assets, checks, automation, partitions and resources, and the commands that start it."""

import os

from models.threads import bound_spin

bound_spin(os.environ)  # here: a process imports this package before torch, however it was started
