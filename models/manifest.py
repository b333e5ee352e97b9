"""The manifest of a checkpoint: what it is, what it was made of, and how to build its network again.

Belongs here: its fields, and JSON.
Not here: weights (checkpoint.py), how versions are computed (pipeline/registry/).
"""

import json
from collections.abc import Mapping
from dataclasses import field, fields
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from exfm.declaration import adapter, declaration
from exfm.differences import differences
from exfm.distillation import Distillation
from exfm.encoding import Encoding
from exfm.learning import Training
from models.errors import CheckpointError, DamagedError
from models.formats import FORMAT, NAMED_AS_NOW, format_of, migrated
from models.network_spec import NetworkSpec
from models.parts import Part

FILE = "manifest.json"


@declaration
class Manifest:
    """What a checkpoint says of itself.

    Args:
        version: digest of all that it is made of.
        model: ``teacher/<name>``, ``student/<name>`` or ``control/<name>``.
        slice: key of the slice that it trained on last.
        declaration: digest of what was declared.
        parent: version that it continues, ``None`` for the first.
        trained_until: newest impression seen, ISO 8601 in UTC; ``None`` if it saw none.
        rows: rows of the slice with a known label of its tasks.
        data_versions: table -> digest of the slice that was read.
        teacher_checkpoints: versions of the teacher whose predictions supervised this slice.
        weights: sha256 of ``weights.safetensors``, or of ``changes.safetensors``.
        parts: what those are changes of: a whole state, then changes of it, oldest first; empty for a whole state.
        metrics: of the slice.
        encoder: how each column becomes an input; empty in a manifest of format 1.
        declared: what ``declaration`` is the digest of; empty in a manifest of format 1.
        grown_by: columns that its parent did not read: it was warm-started with them on this slice.
        made_with: torch's version, device, when, and how many seconds it took.
        unknown: what a later exfm says in the same format; it is written again as it is.
    """

    version: str
    model: str
    slice: str
    declaration: str
    parent: str | None
    trained_until: str | None
    rows: int
    spec: NetworkSpec
    training: Training
    distillation: Distillation
    weights: str
    data_versions: dict[str, str] = field(default_factory=dict)
    teacher_checkpoints: list[str] = field(default_factory=list)
    metrics: dict[str, float | None] = field(default_factory=dict)
    encoder: dict[str, Encoding] = field(default_factory=dict)
    declared: dict[str, Any] = field(default_factory=dict)
    grown_by: list[str] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    unknown: dict[str, Any] = field(default_factory=dict)
    made_with: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        known = adapter(Manifest).dump_python(self, mode="json", exclude={"unknown"})
        if not self.parts:
            del known["parts"]
        written = format_of(self.spec, self.encoder, parts=bool(self.parts))
        return json.dumps({"format": written, **self.unknown, **known}, indent=1)


def _reason(broken: Exception) -> str:
    if not isinstance(broken, ValidationError):
        return str(broken)
    first = broken.errors(include_url=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


def called(folder: Path) -> str:
    """A checkpoint's name in messages: ``<teacher|student|control>/<name>/slice=<key>``."""
    return "/".join(folder.parts[-3:])


def load_manifest(folder: Path, declaration: str | None = None, declared: Mapping[str, Any] | None = None) -> Manifest:
    """Read a checkpoint's manifest.

    Args:
        declaration: what it must have been trained under; ``None`` takes any.
        declared: what that is the digest of, to say what changed.

    Raises:
        DamagedError: if it is missing, or not a manifest.
        CheckpointError: if it is of another declaration, or of a format that only a newer exfm reads.
    """
    path, name = folder / FILE, called(folder)
    if not path.is_file():
        raise DamagedError(f"checkpoint {name}: no {FILE}: train it again")
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        written = plain.get("format", 1)
        if type(written) is not int or written < 1 or type(plain["rows"]) is not int:
            raise ValueError(f"format {written!r}, rows {plain['rows']!r}")
        if written > FORMAT:
            raise CheckpointError(
                f"checkpoint {name}: {FILE} is of format {written}, and this exfm reads up to {FORMAT}: "
                "use the version that wrote it, or a later one"
            )
        names = {part.name for part in fields(Manifest)}
        unknown = {name: value for name, value in plain.items() if name not in {*names, "format"}}
        manifest: Manifest = adapter(Manifest).validate_python({**migrated(plain), "unknown": unknown}, strict=False)
    except CheckpointError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as broken:
        raise DamagedError(f"checkpoint {name}: {FILE} is damaged ({_reason(broken)}): train it again") from broken
    if declaration is not None and manifest.declaration != declaration:
        if written < NAMED_AS_NOW:
            raise CheckpointError(
                f"checkpoint {name}: trained under declaration {manifest.declaration} by an earlier exfm, which named "
                f"declarations otherwise (now {declaration}): train from the first slice again, once"
            )
        changes = differences(manifest.declared, declared or {})
        raise CheckpointError(
            f"checkpoint {name}: trained under declaration {manifest.declaration}, "
            f"the project now declares {declaration}{changes}: train from the first slice again, or undo the change"
        )
    return manifest
