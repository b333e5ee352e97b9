"""What is done: the domain, without Dagster. Arrows between its rooms point down (docs/architecture.md)."""

import os

from models.threads import bound_spin

bound_spin(os.environ)  # here: a process imports this package before torch, however it was started
