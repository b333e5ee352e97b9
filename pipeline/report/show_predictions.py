"""Teacher predictions on the terminal, read through Feast: ``exfm predictions``.

    exfm predictions [--teacher NAME] [--slice KEY] [--rows N]

Belongs here: one look at what is stored. Not here: training sets (feature_repo/store.py has the calls).
"""

import argparse
import sys

import polars as pl
from rich.console import Console

from exfm.columns import ScoreColumns
from exfm.errors import DeclarationError, choose_from
from exfm.load import load_project
from exfm.stream import Slice
from exfm.writing import StateError
from pipeline.tables import DataError
from pipeline.transforms.inputs import rows_of
from pipeline.workspace import Workspace


def main(arguments: list[str] | None = None) -> int:
    """Print, and give the exit status."""
    parser = argparse.ArgumentParser(prog="exfm predictions", description="Teacher predictions, read through Feast.")
    parser.add_argument("--teacher", help="default: the first declared")
    parser.add_argument("--slice", help="default: the newest slice with impressions")
    parser.add_argument("--rows", type=int, default=5)
    chosen = parser.parse_args(arguments)
    console = Console(highlight=False)
    try:
        print(_predictions(Workspace(load_project()), chosen.teacher, chosen.slice, chosen.rows))
    except (DeclarationError, DataError, StateError) as error:
        console.print(f"[red]{error}[/red]")
        return 2
    return 0


def _predictions(work: Workspace, teacher_name: str | None, key: str | None, rows: int) -> pl.DataFrame:
    project = work.project
    if not project.teachers:
        raise DeclarationError(f"Project({project.name}).teachers: () declares no teacher: declare one")
    name = teacher_name or project.teachers[0].name
    choose_from("--teacher", name, [teacher.name for teacher in project.teachers], what="teacher")
    slice_ = project.stream.slice_of(key) if key else _newest_scored(work, name)
    impressions = work.table("impressions")
    if not impressions.rows(slice_):
        raise DataError(f"impressions: slice {slice_.key} is empty: name another with --slice")
    # The clock of the question is now: what is known today of impressions of back then.
    moment = f"TIMESTAMPTZ '{work.now().isoformat()}' AS event_timestamp"
    entities = f"{rows_of(impressions.sound_path(slice_), f'impression_id, {moment}')} LIMIT {max(rows, 1)}"
    view = project.teacher(name).view
    features = [
        "checkpoint",
        "trained_until",
        *(ScoreColumns(task).probability for task in project.teacher(name).tasks),
    ]
    return _retrieve(work, entities, [f"{view}:{feature}" for feature in features]).drop("event_timestamp")


def _retrieve(work: Workspace, entities: str, features: list[str]) -> pl.DataFrame:
    """What Feast answers; what it refuses as a sentence."""
    from feast.errors import FeastError

    from feast_asof.errors import RetrievalError

    try:
        job = work.store.get_historical_features(
            entity_df=entities, features=features, filter_by_created_timestamp=True
        )
        return pl.DataFrame(job.to_arrow())
    except RetrievalError as error:
        raise DataError(str(error)) from error
    except FeastError as error:
        raise DataError(f"Feast: {error}: run `exfm run` or `feast -c feature_repo apply` first") from error


def _newest_scored(work: Workspace, teacher: str) -> Slice:
    folders = {path.parent.name for path in work.state.predictions(teacher).glob("slice=*/*.parquet")}
    scored = [slice_ for slice_ in work.table("impressions").stored(work.project.stream) if slice_.folder in folders]
    if not scored:
        raise DataError(f"teacher/{teacher}/predictions: no slice is there yet: run `exfm run` first")
    return scored[-1]


if __name__ == "__main__":
    sys.exit(main())
