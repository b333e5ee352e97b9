"""A project whose log is made of files that a test writes.

Belongs here: the declaration and reading it in. Not here: what files hold (each test).
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from exfm.distillation import AuxiliaryHead
from exfm.inputs import Number
from exfm.learning import Student, Teacher
from exfm.log_columns import Column, Task
from exfm.log_files import EventTime, Files, From, Log
from exfm.networks import DCNv2
from exfm.project import Project
from exfm.state import State
from exfm.stream import Stream
from pipeline.imports.run import Account, import_log
from pipeline.workspace import Workspace

FIRST, DAY = datetime(2026, 1, 1, tzinfo=UTC), timedelta(days=1)
INPUTS = ("user_id", "item_id", "device")
PLAIN = Files(
    paths=("log*",),
    time=EventTime(of="ts"),
    columns=(From(name="surface", sql="'all'"), From(name="user_id", of="user"), From(name="item_id", of="item")),
)
TABLES = {"impressions": "event_timestamp", "outcomes": "outcome_timestamp", "interactions": "event_timestamp"}


def stream(**changes: object) -> Stream:
    """Three days, one surface, a label column ``click``, a number ``price``."""
    plain = Stream(
        first_slice=FIRST,
        slice_length=DAY,
        until=FIRST + 3 * DAY,
        user=Column(name="user_id", rows=64),
        item=Column(name="item_id", rows=64, dtype=str),
        surface=Column(name="surface", rows=4, dtype=str),
        surfaces=("all",),
        context=(Column(name="device", rows=8, dtype=str),),
        numbers=(Number(name="price"),),
        tasks=(Task(name="clicked", window=timedelta(hours=1), label="click"),),
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def project(log: Log, of: Stream) -> Project:
    """One teacher, one student of the first surface and task."""
    task = of.tasks[0].name
    network = DCNv2(embedding=4, cross=1, hidden=(8,))
    return Project(
        name="imported",
        stream=of,
        log=log,
        feature_views=(),
        teachers=(Teacher(name="large", tasks=(task,), inputs=INPUTS, network=network),),
        students=(
            Student(
                name="small", surface=of.surfaces[0], task=task, inputs=INPUTS, network=network, teacher="large",
                distillation=AuxiliaryHead(),
            ),
        ),
    )  # fmt: skip


def workspace(folder: Path, *files: Files, log: Log | None = None, **changes: object) -> Workspace:
    """A project in ``folder``, whose files lie in ``folder/files``."""
    declared = project(log or Log(impressions=files or (PLAIN,)), stream(**changes))
    (folder / "files").mkdir(exist_ok=True)
    return Workspace(declared, State(folder=folder / "state", log=folder / "state/log", files=folder / "files"))


def rows(work: Workspace, table: str = "impressions") -> pl.DataFrame:
    """What a table of the log holds, by time and id."""
    paths = sorted((work.state.log / table).glob("day=*/*.parquet"))
    if not paths:
        return pl.DataFrame()
    frames = [pl.read_parquet(path, hive_partitioning=False) for path in paths]
    for path, frame in zip(paths, frames, strict=True):
        days = frame[TABLES[table]].dt.strftime("%Y-%m-%d").unique().to_list()
        assert [f"day={day}" for day in days] == [path.parent.name]
    return pl.concat(frames).sort(TABLES[table], maintain_order=True)


def read_in(work: Workspace) -> Account:
    """Read the log in; of each table rows read = kept + quarantined + left out."""
    account = import_log(work)
    for table in account.tables:
        assert table.read == table.kept + table.quarantined + table.left_out, table.sentence()
        assert table.kept == rows(work, table.table).height
    return account


def quarantine(work: Workspace, table: str = "impressions") -> list[str]:
    """Reasons of the rows that were refused, in order."""
    paths = sorted((work.state.log / "_quarantine" / table).glob("*.parquet"))
    return [reason for path in paths for reason in pl.read_parquet(path)["reason"]]


def csv(*lines: str, header: str = "user,item,device,ts,price,click") -> str:
    """A CSV of some lines."""
    return "\n".join([header, *lines]) + "\n"


def day_of_rows(day: int, count: int, first: int = 0) -> str:
    """A day's CSV; users of even number click more often."""
    lines = (
        f"{row % 40},i{row % 11},{'phone' if row % 3 else 'tv'},2026-01-0{day}T{row % 24:02}:{row % 60:02}:00Z,"
        f"{row % 5},{int((row * 7919) % 10 < (6 if row % 2 == 0 else 2))}"
        for row in range(first, first + count)
    )
    return csv(*lines)


# EXFM_PROJECT=tests.imports.logs:PROJECT runs it as a user's own project is run.
PROJECT = project(Log(impressions=(PLAIN,)), stream())
