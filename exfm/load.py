"""Which project runs: ``EXFM_PROJECT`` is a name, ``module:NAME``, or a file of Python that defines ``PROJECT``.

Belongs here: finding the declaration and its state from the environment. Not here: what it says.

A name is that of an entry point in the group ``exfm.projects``: those that come with exfm, and those of any installed
package. Nobody edits a folder of ours to add one.
"""

import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

from exfm.errors import DeclarationError, choose_from
from exfm.fixed_split import FixedSplit
from exfm.project import Project
from exfm.state import State, state_root

DEFAULT, GROUP, ATTRIBUTE = "simulated", "exfm.projects", "PROJECT"
FIXED = "exfm.fixed_splits"  # the group of those without a time
PATH = "EXFM_PROJECT_PATH"  # the folder in which the command was given; its children work in another


def project_name() -> str:
    """The chosen project: ``EXFM_PROJECT``, or ``simulated``; a file as a whole path, the same from any folder."""
    chosen = os.environ.get("EXFM_PROJECT", "").strip() or DEFAULT
    file, attribute = _as_file(chosen)
    return chosen if file is None else f"{_whole(file)}:{attribute}"


def load_project(name: str | None = None) -> Project:
    """Import the declaration of a project.

    Args:
        name: as ``EXFM_PROJECT``, which is asked if none is given.

    Raises:
        DeclarationError: if there is none of that name, or if what it declares does not fit.
    """
    chosen = name or project_name()
    file, attribute = _as_file(chosen)
    if file is not None:
        declared = _attribute(chosen, lambda: _module_of(Path(file)), attribute)
    elif ":" in chosen:
        module, _, attribute = chosen.partition(":")
        _look_in(os.environ.get(PATH, "").strip() or ".")
        declared = _attribute(chosen, lambda: importlib.import_module(module), attribute)
    else:
        known = {point.name: point for point in entry_points(group=GROUP)}
        if chosen not in known and chosen in {point.name for point in entry_points(group=FIXED)}:
            raise DeclarationError(_no_stream(chosen))
        if chosen not in known:
            raise DeclarationError(
                f"EXFM_PROJECT: {chosen!r} is not a project: use one of {sorted(known)}, "
                f"or name your own as module:PROJECT or path/to/file.py{_meant(chosen)}"
            )
        point = known[chosen]
        declared = _attribute(chosen, lambda: importlib.import_module(point.module), point.attr)
    if isinstance(declared, FixedSplit):
        raise DeclarationError(_no_stream(chosen))
    if not isinstance(declared, Project):
        raise DeclarationError(f"EXFM_PROJECT: {chosen!r} is a {type(declared).__name__}, not a Project: name one")
    return declared


def _no_stream(chosen: str) -> str:
    return (
        f"EXFM_PROJECT: {chosen!r} is a fixed split, whose rows have no time, so it is no stream: `exfm bars {chosen}` "
        "trains it"
    )


def fixed_splits() -> list[str]:
    """Names of the fixed splits that come with exfm, or with any installed package."""
    return sorted({point.name for point in entry_points(group=FIXED)})


def load_fixed_split(name: str) -> FixedSplit:
    """Import the declaration of a fixed split.

    Args:
        name: that of an entry point in the group ``exfm.fixed_splits``, ``module:NAME``, or ``path/to/file.py:NAME``.

    Raises:
        DeclarationError: if there is none of that name, or if what it declares does not fit.
    """
    file, attribute = _as_file(name)
    if file is not None:
        declared = _attribute(name, lambda: _module_of(Path(file)), attribute, "bars")
    elif ":" in name:
        module, _, attribute = name.partition(":")
        _look_in(os.environ.get(PATH, "").strip() or ".")
        declared = _attribute(name, lambda: importlib.import_module(module), attribute, "bars")
    else:
        choose_from("bars", name, fixed_splits(), what="fixed split")
        point = next(point for point in entry_points(group=FIXED) if point.name == name)
        declared = _attribute(name, lambda: importlib.import_module(point.module), point.attr, "bars")
    if not isinstance(declared, FixedSplit):
        raise DeclarationError(f"bars: {name!r} is a {type(declared).__name__}, not a FixedSplit: name one")
    return declared


def _whole(file: str) -> Path:
    try:
        return Path(file).expanduser().resolve()
    except RuntimeError as error:  # ~somebody
        raise DeclarationError(f"EXFM_PROJECT: {file!r}: {error}: write the whole path") from error


def _meant(chosen: str) -> str:
    """A file that lies there under nearly this name."""
    near = [path for path in (Path(chosen).with_suffix(".py"), Path(f"{chosen}.py")) if chosen and path.is_file()]
    return f" (did you mean {str(near[0])!r}?)" if near else ""


def _look_in(folder: str) -> None:
    """Let modules be imported from a folder; after all others, so that it hides none of them."""
    path = str(Path(folder).resolve())
    if path not in sys.path:
        sys.path.append(path)


def _as_file(chosen: str) -> tuple[str | None, str]:
    """File and attribute of ``path.py`` or ``path.py:NAME``; no file in anything else."""
    path, colon, attribute = chosen.rpartition(":")
    if colon and path.endswith(".py"):
        return path, attribute
    return (chosen if chosen.endswith(".py") else None), ATTRIBUTE


def _module_of(file: Path) -> ModuleType:
    """A module made of a file; what lies beside it can be imported by it, as by a script."""
    path = _whole(str(file))
    name = f"exfm_project_{path.stem}"
    loaded = sys.modules.get(name)
    if loaded is not None and loaded.__file__ == str(path):
        return loaded
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}: name one that is there")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    _look_in(str(path.parent))
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _attribute(chosen: str, module: Callable[[], ModuleType], attribute: str, where: str = "EXFM_PROJECT") -> object:
    try:
        loaded = module()
    except DeclarationError:
        raise
    except (Exception, SystemExit) as error:
        raise DeclarationError(f"{where}: {chosen!r} can't be loaded: {_reason(error)}") from error
    if not hasattr(loaded, attribute):
        named = [name for name, value in vars(loaded).items() if isinstance(value, Project)]
        instead = f"it has {', '.join(named)}: name it as {chosen.partition(':')[0]}:{named[0]}" if named else ""
        remedy = instead or f"write {attribute} = Project(...) in it"
        raise DeclarationError(f"{where}: {chosen!r} defines no {attribute}: {remedy}")
    return getattr(loaded, attribute)


def _reason(error: BaseException) -> str:
    """What is wrong with a user's code, where, and what to do."""
    if isinstance(error, FileNotFoundError) and error.filename is None:
        return str(error)
    message = str(error).splitlines()[0] if str(error) else "no message"
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if not frame.filename.startswith("<frozen") and frame.filename != __file__]
    where, line = (theirs[-1].filename, theirs[-1].lineno) if theirs else (None, None)
    if isinstance(error, SyntaxError):
        where, line, message = error.filename, error.lineno, error.msg
    if where is None:
        return f"{type(error).__name__}: {message}: name module:PROJECT or path/to/file.py"
    return f"{type(error).__name__}: {message}: see {Path(where).name} line {line}"


def for_children() -> dict[str, str]:
    """What this process was told, in words that hold in any folder: for a child that works in another one."""
    variables = {"EXFM_PROJECT": project_name(), "EXFM_STATE": str(state_root())}
    variables[PATH] = os.environ.get(PATH, "").strip() or str(Path.cwd())
    if log := os.environ.get("EXFM_DATA", "").strip():
        variables["EXFM_DATA"] = str(Path(log).expanduser().resolve())
    return variables


def load_state(project: Project) -> State:
    """The project's paths; its log is ``EXFM_DATA``, or inside the state folder if it is simulated or read in.

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
        holds = "impressions/" if project.log is None else project.log.impressions[0].paths[0]
        raise DeclarationError(f"EXFM_DATA: {named!r} is not a folder: set it to the folder that holds {holds}")
    return State(folder=folder, log=log) if project.log is None else State(folder=folder, log=folder / "log", files=log)
