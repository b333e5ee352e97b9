"""Which project runs: ``EXFM_PROJECT`` names a module of this folder that defines ``PROJECT``, or ``module:NAME``.

Belongs here: finding the declaration and its state from the environment, once. Not here: what it says.
"""

import importlib
import os
from pathlib import Path

from projects.errors import DeclarationError
from projects.project import Project
from projects.state import State, state_root

DEFAULT = "simulated"
_ROOM = Path(__file__).parent


def project_name() -> str:
    """The chosen project: ``EXFM_PROJECT``, or ``simulated``."""
    return os.environ.get("EXFM_PROJECT", "").strip() or DEFAULT


def load_project(name: str | None = None) -> Project:
    """Import the declaration of a project.

    Raises:
        DeclarationError: if no module of that name defines ``PROJECT``, or if what it declares does not fit.
    """
    chosen = name or project_name()
    if ":" in chosen:
        return _from_module(chosen)
    known = sorted(path.stem for path in _ROOM.glob("*.py") if "\nPROJECT = " in path.read_text(encoding="utf-8"))
    if chosen not in known:
        raise DeclarationError(
            f"EXFM_PROJECT: {chosen!r} is not a project: use one of {known}, add projects/{chosen}.py, "
            "or name your own as module:PROJECT"
        )
    project: Project = importlib.import_module(f"projects.{chosen}").PROJECT
    return project


def _from_module(chosen: str) -> Project:
    """A declaration that lies elsewhere, as ``mycompany.ads:PROJECT``."""
    module, _, attribute = chosen.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ModuleNotFoundError, AttributeError) as error:
        raise DeclarationError(f"EXFM_PROJECT: {chosen!r} can't be loaded ({error}): name module:PROJECT") from error
    if not isinstance(found, Project):
        raise DeclarationError(f"EXFM_PROJECT: {chosen!r} is a {type(found).__name__}, not a Project: name one")
    return found


def load_state(project: Project) -> State:
    """The project's paths; its log is ``EXFM_DATA``, or simulated inside the state folder.

    Raises:
        DeclarationError: if the project reads a real log and ``EXFM_DATA`` does not name its folder.
    """
    folder = state_root() / project.name
    if project.simulation is not None:
        return State(folder=folder, log=folder / "log")
    named = os.environ.get("EXFM_DATA", "").strip()
    if not named:
        raise DeclarationError(
            f"EXFM_DATA: not set, and project {project.name!r} reads a real log: set it to the log's folder"
        )
    log = Path(named).expanduser().resolve()
    if not log.is_dir():
        raise DeclarationError(f"EXFM_DATA: {named!r} is not a folder: set it to the folder that holds impressions/")
    return State(folder=folder, log=log)
