"""What MLflow should hold of a project, by what is stored: runs with their figures, models with their versions.

Belongs here: the records. Not here: reading what is stored into them (runs.py, registered.py), MLflow (sync.py).
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

LONGEST_VALUE = 5_000  # characters of a tag or a parameter; MLflow takes 6,000
_REFUSED = re.compile(r"[^A-Za-z0-9_.\- ]")


@dataclass(frozen=True)
class Point:
    """One figure of one slice.

    Args:
        step: index of the slice.
        at: end of the slice, in milliseconds since 1970.
    """

    name: str
    value: float
    step: int
    at: int


@dataclass(frozen=True)
class WantedRun:
    """A run.

    Args:
        key: by which it is found again, the same for as long as its state lives.
        began: milliseconds since 1970.
        parent: key of the run that it is shown below.
        files: a folder that is uploaded where that is declared.
    """

    key: str
    name: str
    began: int
    tags: Mapping[str, str]
    params: Mapping[str, str] = field(default_factory=dict)
    points: tuple[Point, ...] = ()
    parent: str | None = None
    files: Path | None = None

    @property
    def digest(self) -> str:
        """Names all figures by content."""
        listed = sorted((point.name, point.step, point.value) for point in self.points)
        return hashlib.sha256(json.dumps(listed).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class WantedVersion:
    """A version of a registered model: a release.

    Args:
        run: key of its run.
        folder: where its files lie.
        reference: names the release where MLflow takes no path.
    """

    key: str
    run: str
    number: int
    folder: Path
    reference: str
    about: str
    tags: Mapping[str, str]


@dataclass(frozen=True)
class WantedModel:
    """A registered model: a student that was released.

    Args:
        versions: by number of release, oldest first.
        aliases: name -> number of a release; ``None``: nothing has that name.
    """

    name: str
    about: str
    tags: Mapping[str, str]
    versions: tuple[WantedVersion, ...]
    aliases: Mapping[str, int | None]


def milliseconds(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def named(*parts: object) -> str:
    """The name of a figure: signs that MLflow refuses become ``_``."""
    return "/".join(_REFUSED.sub("_", str(part)) for part in parts)


def shortened(values: Mapping[str, object]) -> dict[str, str]:
    """Values as texts that MLflow takes; those that say nothing are left out."""
    said = {name: value for name, value in values.items() if value not in (None, "", [], {})}
    return {name: as_text(value)[:LONGEST_VALUE] for name, value in said.items()}


def as_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def flat(value: object, name: str = "") -> Iterable[tuple[str, str]]:
    """A canonical form as parameters: ``network: DCNv2``, ``network.hidden: [8]``."""
    if not isinstance(value, Mapping):
        yield _REFUSED.sub("_", name), as_text(value)[:LONGEST_VALUE]
        return
    for part, inner in value.items():
        if part != "type":
            yield from flat(inner, f"{name}.{part}" if name else str(part))
        elif name:
            yield name, str(inner)
