"""MLflow as a project sees it: the client, and which runs and versions there are its own.

Belongs here: whose is what. Not here: what is written (run_sync.py, model_sync.py).
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ParamSpec, Protocol, TypeVar
from uuid import uuid4

from exfm.atomic_write import write_text
from pipeline.workspace import Workspace

if TYPE_CHECKING:
    from mlflow import MlflowClient

KEY, PROJECT, STATE = "exfm.key", "exfm.project", "exfm.state"
ID_FILE = "mlflow.json"
PAGE = 1_000
P = ParamSpec("P")
T = TypeVar("T", covariant=True)
Made = TypeVar("Made")


class Page(Protocol[T]):
    """Some of what was searched for; ``token`` asks for more."""

    token: str | None

    def __iter__(self) -> Iterator[T]: ...


@dataclass
class Handle:
    """The client, and the tags that say whose a run, a model or a version is.

    Args:
        uri: of MLflow.
        whose: tags of all that is ours.
        written: how many calls changed something.
    """

    client: "MlflowClient"
    uri: str
    whose: Mapping[str, str]
    written: int = 0

    def write(self, call: Callable[P, Made], *args: P.args, **kwargs: P.kwargs) -> Made:
        """Make a call that changes something."""
        made = call(*args, **kwargs)
        self.written += 1
        return made

    def is_ours(self, tags: Mapping[str, str]) -> bool:
        return all(tags.get(name) == value for name, value in self.whose.items())

    def tags_of(self, key: str) -> dict[str, str]:
        """Tags with which something of ours is made."""
        return {**self.whose, KEY: key}


def whose(work: Workspace) -> dict[str, str]:
    """The tags of what is this project's, of this state.

    A name alone would not do: a second state of the project, on a developer's machine, would take what serves from the
    first. A state that is copied is the same one.
    """
    path = work.state.folder / ID_FILE
    if not path.is_file():
        write_text(path, json.dumps({"state": uuid4().hex[:12]}))
    return {PROJECT: work.project.name, STATE: str(json.loads(path.read_text(encoding="utf-8"))["state"])}


def pages(search: Callable[..., Page[Made]]) -> Iterator[Made]:
    """All that a search finds."""
    token: str | None = None
    while True:
        page = search(max_results=PAGE, page_token=token)
        yield from page
        if not (token := page.token):
            return


def first_of_each(found: Iterator[Made], key_of: Callable[[Made], tuple[str | None, int]]) -> dict[str, Made]:
    """By key, the oldest: a call whose answer was lost may have been made twice by the transport."""
    kept: dict[str, Made] = {}
    for each in sorted(found, key=lambda each: key_of(each)[1]):
        key = key_of(each)[0]
        if key is not None:
            kept.setdefault(key, each)
    return kept


def lacking(wanted: Mapping[str, str], there: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Tags that are not there, or say otherwise."""
    return ((name, value) for name, value in wanted.items() if there.get(name) != value)
