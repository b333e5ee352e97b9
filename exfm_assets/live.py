"""``exfm live``: a simulated crowd, the server that it asks, and Dagster that keeps students current, in one terminal.

    exfm live [--drift] [--fault] [--fresh] [--port 8080] [--ui-port 3000] [--minutes N]

Belongs here: beginning a world or going on with one, what may befall it, and its end. Not here: the world
(pipeline/live/), the processes beside it (live_children.py), what is said of it (live_words.py).
"""

import argparse
import fcntl
import json
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rich.console import Console

from exfm.atomic_write import atomic_write
from exfm.errors import DeclarationError
from exfm.load import load_project, load_state
from exfm.project import Project
from exfm.simulation import Event
from exfm.state import State, state_root
from exfm.writing import StateError
from exfm_assets.live_children import Children
from exfm_assets.live_words import Narrator
from pipeline.live.choosing import Server
from pipeline.live.live_world import WORLD, LiveWorld, add_events
from pipeline.tables import DataError
from pipeline.workspace import Workspace

BEFORE = 12  # slices that are over when a world begins: its crowd was there already, and nobody chose for it
LONG = timedelta(hours=2)  # without a world: then catching up takes longer than beginning anew
BEFALLS_AFTER = timedelta(minutes=5)
FAULT_SLICES = 8  # for which clicks are logged the wrong way round: long enough that a student learns it
LOCK = ".live"


def main(arguments: list[str] | None = None) -> int:
    """Live until Ctrl-C; the exit status."""
    given = _given(arguments)
    console = Console(highlight=False, soft_wrap=True)
    os.environ["EXFM_PROJECT"] = "live"
    os.environ["EXFM_STATE"] = str(_state())
    folder = state_root() / "live"
    try:
        with _alone(folder) as alone:
            if not alone:
                return _to_running(given, console)
            if given.fresh:
                _forget(folder)
            is_new = _begin(folder)
            project = load_project()
            return _live(Workspace(project, load_state(project)), given, is_new, console)
    except (DeclarationError, StateError, DataError, OSError) as error:
        console.print(f"exfm live: {error}", style="red", markup=False)
        return 2


def _given(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="exfm live", description="A world that lives: watch upkeep at work.")
    parser.add_argument("--drift", action="store_true", help="let popularity turn over, of a world that runs or begins")
    parser.add_argument("--fault", action="store_true", help="let clicks be logged the wrong way round for a while")
    parser.add_argument("--fresh", action="store_true", help="forget the world that was there, and begin a new one")
    parser.add_argument("--port", type=int, default=8080, help="of the server and its page")
    parser.add_argument("--ui-port", type=int, default=3000, help="of Dagster's UI")
    parser.add_argument("--minutes", type=float, default=None, help="end by itself after so many")
    return parser.parse_args(arguments)


def _state() -> Path:
    """A folder of its own: beside other projects' state, their Dagster would keep both."""
    named = os.environ.get("EXFM_STATE", "").strip()
    return Path(named).expanduser().resolve() if named else state_root() / "live"


@contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """Whether no other process lives in this folder, which it keeps then."""
    folder.mkdir(parents=True, exist_ok=True)
    with (state_root() / LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def _forget(folder: Path) -> None:
    """Remove a world with its Dagster.

    Raises:
        DeclarationError: if other projects keep their state beside it: their Dagster is the same.
    """
    own = {folder.name, "dagster", "dagster_home", LOCK}
    others = sorted(path.name for path in state_root().iterdir() if path.name not in own)
    if others:
        raise DeclarationError(
            f"EXFM_STATE: {state_root()} holds more than a live world ({others[0]}), so it is not emptied: "
            "use a folder of its own"
        )
    for name in own - {LOCK}:
        shutil.rmtree(state_root() / name, ignore_errors=True)
    folder.mkdir()


def _to_running(given: argparse.Namespace, console: Console) -> int:
    if not (given.drift or given.fault):
        console.print(f"A world lives in {state_root()} already: end that one first, or set EXFM_STATE to another")
        return 2
    project = load_project()
    said = _let_befall(load_state(project), project, given, datetime.now(UTC))
    console.print(f"With the next slice of the world that lives already {said}: its own terminal says what follows")
    return 0


def _let_befall(state: State, project: Project, given: argparse.Namespace, at: datetime) -> str:
    """Let happen from a moment on what is asked for; what that is, in words."""
    day, said = (at - project.stream.first_slice) / timedelta(days=1), list[str]()
    if given.drift:
        add_events(state, turned_over(project, day))
        said.append("what is popular turns into something else")
    if given.fault:
        add_events(state, [flipped(project, day)])
        said.append(f"clicks on {project.stream.surfaces[0]} are logged the wrong way round for {FAULT_SLICES} minutes")
    return ", and ".join(said)


def turned_over(project: Project, day: float) -> list[Event]:
    """What ``--drift`` does: what is popular becomes something else, and one surface is clicked less."""
    surface = project.stream.surfaces[0]
    return [
        Event(kind="popularity", day=day, strength=1.0),
        Event(kind="taste", day=day, strength=0.7),
        Event(kind="rates", day=day, strength=0.6, of=surface),
    ]


def flipped(project: Project, day: float) -> Event:
    """What ``--fault`` does: on one surface what is clicked is logged as not clicked, and the other way round."""
    length = FAULT_SLICES * (project.stream.slice_length / timedelta(days=1))
    return Event(kind="flipped", day=day, length=length, of=project.stream.surfaces[0])


def _begin(folder: Path) -> bool:
    """Write down when the world begins, unless it has; whether it is new."""
    path = folder / WORLD
    if path.is_file():
        return False
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    with atomic_write(path) as file:
        file.write(json.dumps({"first_slice": (now - BEFORE * timedelta(minutes=1)).isoformat()}).encode())
    return True


def _live(work: Workspace, given: argparse.Namespace, is_new: bool, console: Console) -> int:
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    work.state.log.mkdir(parents=True, exist_ok=True)
    world = LiveWorld(work.project, work.state, Server("127.0.0.1", given.port))
    narrator = Narrator(work, console)
    _catch_up(world, work, is_new, console)
    world.on_slice = narrator.slice_ended
    if given.drift or given.fault:
        at = datetime.now(UTC) + BEFALLS_AFTER
        said = _let_befall(work.state, work.project, given, at)
        console.print(f"At {at:%H:%M} UTC {said}.")
    console.print(
        f"Page http://127.0.0.1:{given.port}   Dagster http://127.0.0.1:{given.ui_port}   "
        f"Ctrl-C ends all of it; the next start goes on here.\n"
        f"In another terminal: export EXFM_PROJECT=live EXFM_STATE={state_root()}"
    )
    if given.minutes is not None:
        timer = threading.Timer(60 * given.minutes, stop.set)
        timer.daemon = True
        timer.start()
    children = Children(work.state.folder, given.port, given.ui_port, first_run=is_new, tell=narrator.say)
    with children.running() as ended:
        over = _either(stop, ended)
        looking = threading.Thread(target=narrator.run, args=(over,), daemon=True)
        looking.start()
        world.run(over)
        looking.join()
    console.print(children.summary())
    if ended.is_set() and not stop.is_set():
        console.print(children.why(), style="red", markup=False)
        return 1
    return 0


def _either(stop: threading.Event, ended: threading.Event) -> threading.Event:
    """An event that is set once one of the two is."""
    either = threading.Event()

    def wait(event: threading.Event) -> None:
        event.wait()
        either.set()

    for event in (stop, ended):
        threading.Thread(target=wait, args=(event,), daemon=True).start()
    return either


def _catch_up(world: LiveWorld, work: Workspace, is_new: bool, console: Console) -> None:
    stream = work.project.stream
    if is_new:
        over = list(stream.slices(stream.first_slice, datetime.now(UTC).replace(second=0, microsecond=0)))
        world.live_through(over)
        console.print(f"A new world in {state_root()}: {len(over)} slices of a minute are over, nobody chose for them.")
        return
    files = (work.state.log / "impressions").rglob("*.parquet")
    last = datetime.fromtimestamp(max((path.stat().st_mtime for path in files), default=0), UTC)
    gap = datetime.now(UTC) - max(last, stream.first_slice)
    empty = max(gap // stream.slice_length, 0)
    console.print(f"The world in {state_root()} goes on; for {empty} minutes nobody came.")
    if gap > LONG:
        console.print(f"Dagster fills {empty} empty slices first, some 2 s each; `exfm live --fresh` begins anew.")
