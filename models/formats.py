"""Formats of manifests: which one a manifest is of, and what an older one says as the present one would.

Belongs here: when a format is raised. Not here: fields (manifest.py).
"""

from collections.abc import Mapping
from typing import Any

from exfm.encoding import Encoding
from models.network_spec import NetworkSpec

# Raised when an older exfm would misread what a manifest says; manifests without one are of format 1. What an older
# format says otherwise is put right by ``migrated``: tests load checkpoints of every format. Newest first: what stands
# beside ids of lists, and running quantiles; inputs that an older exfm would not know (bags, vectors, ids made of
# others); weights that it would not find (those on top of parts); networks that it would build otherwise (those with
# late fields).
FORMAT, FORMAT_OF_INPUTS, FORMAT_OF_PARTS, FORMAT_OF_LATE, FORMAT_OF_OTHERS = 6, 5, 4, 3, 2
NAMED_AS_NOW = 2  # since this format declarations have the digests that they have now


def format_of(spec: NetworkSpec, encoder: Mapping[str, Encoding], *, parts: bool) -> int:
    """The oldest format that says all of it: an older exfm reads what it can.

    Args:
        parts: whether its weights are changes of others.
    """
    if spec.sides or spec.quantiles:
        return FORMAT
    if spec.bags or spec.vectors or spec.unbounded or any(each.is_of_the_log for each in encoder.values()):
        return FORMAT_OF_INPUTS
    return FORMAT_OF_PARTS if parts else FORMAT_OF_LATE if spec.late else FORMAT_OF_OTHERS


def migrated(plain: dict[str, Any]) -> dict[str, Any]:
    """What a manifest of an older format says, as the present one would."""
    if int(plain.get("format", 1)) < 2:
        plain = {**plain, "training": {"type": "Training", **plain["training"]}}
        student_adapter = (plain["distillation"] or {}).get("adapter") or {}
        if "told" in student_adapter:
            student_adapter["context"] = student_adapter.pop("told")
    return plain
