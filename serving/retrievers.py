"""Retrievers: a release's request tower beside an index of the items' vectors of just that release.

Belongs here: making one. Not here: which ones serve (indexes.py), answers (retrieving.py), which items there are
(pipeline/releases/items.py, which writes them beside a student's releases).

Items' vectors are made here, by the item tower and with the item's features of the online store: those that ``/rank``
would read, and as new as they are.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from exfm.input_columns import is_of_item
from exfm.project import Project
from serving.encoder import Signature
from serving.errors import ReleaseError
from serving.features import Asked, FeatureReader
from serving.item_index import ItemIndex
from serving.releases import Serving
from serving.request_log import Same, rows_of
from serving.towers import Towers

ITEMS, OWN = "items.parquet", ("$seen", "$until")  # of a student's releases; its columns that are of no log
AT_ONCE = 500  # items; between two parts answers have their turn


@dataclass(frozen=True)
class Retriever:
    """What answers ``/retrieve`` for a student: all of it is of one release.

    Args:
        reader: of the request's columns.
        items: a row an item as in the index: its id, its columns of the log, all that its vector was made of.
        made: when its items' features were read; ``seconds``: how long that and the index took.
        left_out: items that are known and not in the index, as there are more than it may hold or they have no vector.
    """

    serving: Serving
    towers: Towers
    reader: FeatureReader
    index: ItemIndex
    items: pa.Table
    made: datetime
    seconds: float
    left_out: int

    def search(self, columns: Any, now: float, most: int) -> tuple[pa.Table, np.ndarray]:
        """The items with the highest scores for a request, and those, highest first."""
        vector = self.towers.user.vectors(columns, 1, now)
        places, products = self.index.search(vector, most)
        return self.items.take(places), self.towers.scores(products)


def joined_by(project: Project, towers: Towers) -> str | None:
    """What makes one tower's vector depend on the other's inputs, in a few words; ``None``: nothing does."""
    item = project.stream.item.name
    for name in towers.user.signature.columns:
        if is_of_item(project, name):
            return f"{name} is of the item, and its network reads it beside the request"
        if "__" in name and item in project.view(name.partition("__")[0]).entities:
            return f"{name} is of a request and an item together"
    others = [name for name in towers.item.signature.columns if not is_of_item(project, name)]
    return f"{others[0]} is not of the item alone" if others else None


def made(
    project: Project,
    serving: Serving,
    towers: Towers,
    known: pa.Table,
    reader_of: Callable[[Signature], FeatureReader],
    schema: pa.Schema,
    most: int,
    now: datetime,
    rest: Callable[[float], object] = lambda _: None,
) -> Retriever:
    """Read the items' features, make their vectors and the index.

    Args:
        known: items, those shown last first.
        schema: of the release's request log.
        most: items in the index.
        rest: called between two parts with the seconds that the last one took.

    Raises:
        ReleaseError: if no item is known.
        RetrievalError: if the online store can't be read.
    """
    began, item = time.perf_counter(), project.stream.item.name
    chosen = known.slice(0, most).drop_columns(list(OWN))
    reader, columns = reader_of(towers.item.signature), towers.item.signature.columns
    read = pa.schema([schema.field(name) for name in dict.fromkeys((item, *columns))])
    vectors, rows = np.empty((chosen.num_rows, towers.width), dtype=np.float32), []
    for start in range(0, chosen.num_rows, AT_ONCE):
        started, part = time.perf_counter(), chosen.slice(start, AT_ONCE)
        each = part.to_pylist()
        gathered = reader.gather(Asked({project.stream.surface.name: serving.student.surface}, each, now))
        vectors[start : start + len(each)] = towers.item.vectors(gathered.columns, len(each), now.timestamp())
        given: dict[str, Any] = {item: [one[item] for one in each]}
        given |= {name: Same(of[0]) if len(of) == 1 else of for name, of in gathered.columns.items()}
        rows.append(rows_of(given, read, len(each)))
        rest(time.perf_counter() - started)
    sound = np.isfinite(vectors).all(axis=1)
    if not sound.any():
        raise ReleaseError(f"student {serving.student.name}: none of {known.num_rows} items has a vector: roll back")
    table = pa.Table.from_batches(rows, read)
    for name in chosen.column_names:
        if name not in table.column_names:
            table = table.append_column(name, chosen[name])
    index = ItemIndex(vectors[sound])
    items = table.filter(pa.array(sound)).combine_chunks()
    left_out, seconds = known.num_rows - items.num_rows, time.perf_counter() - began
    return Retriever(
        serving, towers, reader_of(towers.user.signature), index, items, now, seconds, left_out
    )  # fmt: skip


def known_items(path: Path, item: str) -> pa.Table:
    """The items that are written beside a student's releases.

    Raises:
        ReleaseError: if they are not there, or can't be read.
    """
    try:
        known = pq.read_table(path)
    except FileNotFoundError:
        raise ReleaseError(f"{path} is not there: materialise online_store, which writes it") from None
    except (OSError, pa.ArrowException) as error:
        raise ReleaseError(
            f"{path} can't be read ({error}): materialise online_store, which writes it again"
        ) from error
    if not known.num_rows or not {item, *OWN} <= {*known.column_names}:
        raise ReleaseError(f"{path} has no items: run the main job over a slice in which some were shown")
    return known
