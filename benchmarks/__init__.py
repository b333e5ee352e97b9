"""Measurements: ratios and shares within one run, medians of several, as JSON and as a table."""

import os

from models.threads import bound_spin

bound_spin(os.environ)  # here: a process imports this package before torch, however it was started
