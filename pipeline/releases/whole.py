"""Are a release's files there as they were written? Without torch, which is slow to import.

Belongs here: looking. Not here: making them whole again (publishing.py).
"""

import json
from pathlib import Path

from exfm.learning import Student
from models.errors import DamagedError
from models.manifest import FILE, load_manifest
from models.parts import GRAPH, SERVING, SIGNATURE, TOWERS
from pipeline.releases.release import CURRENT, current_release, released_versions
from pipeline.sidecar import sha256_of
from pipeline.workspace import Workspace


def release_fault(work: Workspace, student: Student) -> str | None:
    """What is wrong with the files of what is served, in a few words; ``None`` if nothing is, or nothing is served."""
    folder, served = work.state.release(student.name), current_release(work, student)
    if served is None:
        there = (folder / CURRENT).exists() or released_versions(work, student)
        return f"releases/{student.name}/{CURRENT} is missing or damaged" if there else None
    return version_fault(work, student, served.version)


def whole_releases(work: Workspace, student: Student) -> list[str]:
    """Versions whose files are there as they were written."""
    folder = work.state.release(student.name)
    return [version for version in released_versions(work, student) if _fault_of(folder / version) is None]


def version_fault(work: Workspace, student: Student, version: str) -> str | None:
    """What is wrong with the files of a release, in a few words."""
    fault = _fault_of(work.state.release(student.name) / version)
    return None if fault is None else f"releases/{student.name}/{version}/{fault}"


def _fault_of(folder: Path) -> str | None:
    """What is wrong with a release's folder."""
    try:
        manifest = load_manifest(folder)
    except DamagedError:
        return f"{FILE} is missing or damaged"
    path = folder / SERVING
    if not path.is_file():
        return f"{SERVING} is missing"
    if sha256_of(path) != manifest.weights:
        return f"{SERVING} is damaged"
    return None if lacks_graph(folder) else _fault_of_graph(folder)


def lacks_graph(folder: Path) -> bool:
    """Has a release no model for runtimes without torch, as those of an earlier exfm? Its signature is written last.

    Or none of its two towers, as of an exfm that did not retrieve yet.
    """
    try:
        signature = json.loads((folder / SIGNATURE).read_text(encoding="utf-8"))
        return "towers" not in signature and load_manifest(folder).spec.network.two_sided
    except FileNotFoundError:
        return True
    except (OSError, ValueError, DamagedError):
        return False  # damaged, which is another fault


def _fault_of_graph(folder: Path) -> str | None:
    try:
        signature = json.loads((folder / SIGNATURE).read_text(encoding="utf-8"))
        towers = signature.get("towers", {})
        digests = {GRAPH: signature["graph"]}
        digests |= {name: towers[side]["graph"] for side, name in TOWERS.items() if side in towers}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"{SIGNATURE} is damaged"
    for name, digest in digests.items():
        if not (folder / name).is_file():
            return f"{name} is missing"
        if sha256_of(folder / name) != digest:
            return f"{name} is damaged"
    return None
