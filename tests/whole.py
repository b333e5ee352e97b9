"""A slice of one part as a test looks at it.

Belongs here: its tensors, and which impressions its rows are. Not here: slices of several parts.
"""

import polars as pl

from models.batch import SliceTensors
from pipeline.slices.slice_inputs import SliceInputs


def tensors_of(inputs: SliceInputs) -> SliceTensors:
    (part,) = inputs.parts()
    return part


def shown_of(inputs: SliceInputs) -> pl.DataFrame:
    """``impression_id``, ``event_timestamp`` and the surface."""
    (part,) = inputs.shown()
    return part
