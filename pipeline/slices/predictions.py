"""Teacher predictions: written append-only with their provenance, read through Feast, leaks kept out both ways.

Belongs here: the prediction table's rows and files.
Not here: scoring (teacher_walk.py), the leak rules (feature_repo/guards.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl

from exfm.learning import Teacher
from exfm.stream import Slice
from feature_repo.guards import mask_leaks, split_leaks
from pipeline.sidecar import as_written, read_sidecar, sidecar_of, write_sidecar, write_stored
from pipeline.tables import DataError, is_whole, naming_damage
from pipeline.transforms.inputs import rows_of
from pipeline.workspace import Workspace


@dataclass(frozen=True)
class Stored:
    """What became of a slice's predictions.

    Args:
        rows: kept, visible to students from ``created_timestamp`` on.
        leaks: refused by a leak rule and quarantined with the reason.
        reused: the newest file already held this checkpoint's scores of these inputs.
        damaged: files of this slice that were not what had been written, and were set aside.
    """

    rows: int
    leaks: int
    reused: bool
    checkpoint: str | None
    path: Path | None
    damaged: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scorer:
    """Who scored: a checkpoint's version, and the newest impression that it had seen."""

    checkpoint: str
    trained_until: datetime


def prediction_schema(teacher: Teacher) -> dict[str, pl.DataType]:
    """The columns of a teacher's prediction table."""
    utc = pl.Datetime("us", "UTC")
    scores = {f"{task}_{kind}": pl.Float32() for kind in ("logit", "probability") for task in teacher.tasks}
    provenance = {"created_timestamp": utc, "checkpoint": pl.String(), "trained_until": utc, "run_id": pl.String()}
    return {"impression_id": pl.Int64(), "event_timestamp": utc, **provenance, **scores}


def files_of(work: Workspace, teacher: Teacher, slice_: Slice) -> list[Path]:
    """The slice's prediction files, oldest run first."""
    return sorted((work.state.predictions(teacher.name) / slice_.folder).glob("*.parquet"))


def sound_files(work: Workspace, teacher: Teacher, slice_: Slice) -> list[Path]:
    """The same, looked at.

    Raises:
        DataError: if one of them is not what was written.
    """
    files = files_of(work, teacher, slice_)
    for path in files:
        if not sound(path):
            asset = f"teacher/{teacher.name}/predictions"
            raise DataError(
                f"{asset}: {path.parent.name}/{path.name} is not a whole parquet file (cut short or overwritten): "
                f"materialise {asset} for slice {slice_.key} again"
            )
    return files


def check_predictions(work: Workspace, teacher: Teacher) -> None:
    """Look at every file of a teacher's predictions.

    Raises:
        DataError: as ``sound_files``.
    """
    for slice_ in scored_slices(work, teacher):
        sound_files(work, teacher, slice_)


def scored_slices(work: Workspace, teacher: Teacher) -> list[Slice]:
    """The slices with stored predictions, oldest first."""
    stream = work.project.stream
    folders = {path.parent.name for path in work.state.predictions(teacher.name).glob("slice=*/*.parquet")}
    return [slice_ for slice_ in stream.slices(stream.first_slice, work.now()) if slice_.folder in folders]


def scored_by(work: Workspace, teacher: Teacher, slice_: Slice) -> str | None:
    """Which checkpoint scored which inputs, ``<checkpoint>-<inputs>``, by the name of the slice's newest file."""
    files = files_of(work, teacher, slice_)
    return files[-1].stem.partition("-")[2] if files else None


def set_aside_damaged(work: Workspace, teacher: Teacher, slice_: Slice) -> tuple[str, ...]:
    """Take files that are not what was written out of the table, so that they can be made again; gives their names.

    Their bytes stay beside the others, under a name that no reader looks at.
    """
    damaged = [path for path in files_of(work, teacher, slice_) if not sound(path)]
    for path in damaged:
        path.rename(path.with_name(f".{path.name}.damaged"))
        sidecar_of(path).unlink(missing_ok=True)
    return tuple(path.name for path in damaged)


def sound(path: Path) -> bool:
    """Is a prediction file what was written?"""
    return is_whole(path) and as_written(path)


def stored_checkpoint(path: Path) -> str:
    """Which checkpoint scored the rows of a prediction file (``<created>-<checkpoint>-<inputs>.parquet``)."""
    return path.stem.split("-")[1]


def named_checkpoints(work: Workspace, teacher: Teacher) -> set[str]:
    """Every checkpoint that stored predictions name."""
    return {stored_checkpoint(path) for path in work.state.predictions(teacher.name).glob("slice=*/*.parquet")}


def already_stored(work: Workspace, teacher: Teacher, slice_: Slice, scorer: Scorer, inputs: str) -> Stored | None:
    """The newest file, if it holds what scoring again would write, and the rows that were refused are there too."""
    files, refused = files_of(work, teacher, slice_), work.quarantine(teacher.view)
    if not files or not refused.sound(slice_) or not files[-1].stem.endswith(f"-{scorer.checkpoint}-{inputs}"):
        return None
    rows = pl.scan_parquet(files[-1], hive_partitioning=False, glob=False).select(pl.len()).collect().item()
    if read_sidecar(files[-1]) is None:  # an older version wrote it, or its writer was stopped
        write_sidecar(files[-1], rows, _made_of(scorer, inputs))
    if read_sidecar(refused.path(slice_)) is None:
        write_sidecar(refused.path(slice_), refused.rows(slice_))
    return Stored(rows=rows, leaks=0, reused=True, checkpoint=scorer.checkpoint, path=files[-1])


def _made_of(scorer: Scorer, inputs: str) -> dict[str, str]:
    return {"checkpoint": scorer.checkpoint, "logged_inputs": inputs}


def store_predictions(
    work: Workspace,
    teacher: Teacher,
    slice_: Slice,
    impressions: pl.DataFrame,
    logits: np.ndarray,
    scorer: Scorer,
    inputs: str,
    run_id: str,
) -> Stored:
    """Append a run's predictions of a slice; a later run supersedes by its ``created_timestamp``.

    Args:
        impressions: ``impression_id`` and ``event_timestamp`` of N rows.
        logits: (N, T) float32, one column a task of the teacher.
        inputs: digest of the inputs that were scored.
    """
    created = work.now()
    columns = {
        "created_timestamp": pl.lit(created, pl.Datetime("us", "UTC")),
        "checkpoint": pl.lit(scorer.checkpoint),
        "trained_until": pl.lit(scorer.trained_until, pl.Datetime("us", "UTC")),
        "run_id": pl.lit(run_id),
    }
    scores = {f"{task}_logit": logits[:, place].astype(np.float32) for place, task in enumerate(teacher.tasks)}
    frame = impressions.select("impression_id", "event_timestamp").with_columns(**columns).hstack(pl.DataFrame(scores))
    frame = frame.with_columns(
        (1 / (1 + (-pl.col(f"{task}_logit")).exp())).cast(pl.Float32).alias(f"{task}_probability")
        for task in teacher.tasks
    )
    kept, leaks = split_leaks(frame)
    work.quarantine(teacher.view).write(slice_, leaks)
    name = f"{created:%Y%m%dT%H%M%S%f}-{scorer.checkpoint}-{inputs}.parquet"
    path = work.state.predictions(teacher.name) / slice_.folder / name
    write_stored(kept, path, _made_of(scorer, inputs))
    return Stored(rows=kept.height, leaks=leaks.height, reused=False, checkpoint=scorer.checkpoint, path=path)


@dataclass(frozen=True)
class Supervision:
    """A teacher's predictions for a slice, as known when they were read.

    Args:
        logits: (N, T) float32 in the order of the slice's impressions, NaN where there is none.
        staleness: (N,) float32, hours from the newest impression that the scorer had seen to this one, NaN if none.
        checkpoints: which checkpoints they come from.
        leaks: rows that a leak rule masked although they were stored.
        coverage: share of impressions with a prediction.
    """

    logits: np.ndarray
    staleness: np.ndarray
    checkpoints: tuple[str, ...]
    leaks: int
    coverage: float


def read_supervision_of(work: Workspace, teacher: Teacher, slice_: Slice, services: Sequence[str]) -> Supervision:
    """Read a slice's supervision through Feast, by the clock of this moment.

    Args:
        services: the supervision services of the students that will learn from it; joined once for all.
    """
    from feature_repo.store import read_supervision

    impressions = work.table("logged_inputs").read([slice_], columns=["impression_id", "event_timestamp"])
    if teacher.scorer_of(work.project.stream.index_at(slice_.start)) < 0 or not sound_files(work, teacher, slice_):
        nothing = np.full((impressions.height, len(teacher.tasks)), np.nan, dtype=np.float32)
        unknown = np.full(impressions.height, np.nan, dtype=np.float32)
        return Supervision(logits=nothing, staleness=unknown, checkpoints=(), leaks=0, coverage=0.0)
    entities = rows_of(work.table("logged_inputs").sound_path(slice_), "impression_id, event_timestamp")
    with naming_damage(lambda: check_predictions(work, teacher)):
        read = pl.DataFrame(read_supervision(work.store, entities, work.now(), services))
    masked, leaks = mask_leaks(read, teacher.view)
    logits = masked.select(_logit(masked, f"{teacher.view}__{task}_logit") for task in teacher.tasks).to_numpy()
    checkpoints = masked[f"{teacher.view}__checkpoint"].drop_nulls().unique().sort().to_list()
    scored = masked.height - masked[f"{teacher.view}__checkpoint"].null_count()
    return Supervision(
        logits=np.ascontiguousarray(logits),
        staleness=_hours(masked, f"{teacher.view}__trained_until"),
        checkpoints=tuple(checkpoints),
        leaks=leaks,
        coverage=scored / max(masked.height, 1),
    )


def _hours(frame: pl.DataFrame, trained_until: str) -> np.ndarray:
    age = (pl.col("event_timestamp") - pl.col(trained_until)).dt.total_seconds() / 3600
    return frame.select(age.cast(pl.Float32).fill_null(float("nan"))).to_series().to_numpy(writable=True)


def _logit(frame: pl.DataFrame, name: str) -> pl.Expr:
    """A task that no asked student learns is not read: all unknown."""
    column = pl.col(name) if name in frame.columns else pl.lit(None)
    return column.cast(pl.Float32).fill_null(float("nan")).alias(name)
