"""Teacher predictions: written append-only with their provenance, leaks kept out.

Belongs here: the prediction table's rows and files.
Not here: scoring (training/teacher_walk.py), reading them as supervision (supervision.py), the leak rules
(feature_repo/guards.py).
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl

from exfm.columns import ScoreColumns
from exfm.learning import Teacher
from exfm.stream import Slice
from feature_repo.guards import split_leaks
from pipeline.sidecar import SECONDS, as_written, read_sidecar, sidecar_of, write_sidecar, write_stored
from pipeline.tables import DataError, is_whole
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


@dataclass(frozen=True)
class PredictionFile:
    """A file of predictions by its name, ``<created>-<checkpoint>-<inputs>.parquet``: names sort by when it was made.

    Args:
        created: the moment of its run, ``YYYYMMDDTHHMMSSffffff`` in UTC.
        checkpoint: version of the checkpoint that scored.
        inputs: digest of what it scored.
    """

    created: str
    checkpoint: str
    inputs: str

    @classmethod
    def of(cls, path: Path) -> "PredictionFile":
        created, _, rest = path.stem.partition("-")
        checkpoint, _, inputs = rest.partition("-")
        return cls(created, checkpoint, inputs)

    @property
    def name(self) -> str:
        return f"{self.created}-{self.scored}.parquet"

    @property
    def scored(self) -> str:
        """Which checkpoint scored which inputs: the same scores, the same text."""
        return f"{self.checkpoint}-{self.inputs}"


def prediction_schema(teacher: Teacher) -> dict[str, pl.DataType]:
    """The columns of a teacher's prediction table."""
    utc = pl.Datetime("us", "UTC")
    tasks = [ScoreColumns(task) for task in teacher.tasks]
    scores = {name: pl.Float32() for name in (*(task.logit for task in tasks), *(task.probability for task in tasks))}
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


def newest_file(work: Workspace, teacher: Teacher, slice_: Slice) -> PredictionFile | None:
    """The slice's newest prediction file, ``None`` if there is none."""
    files = files_of(work, teacher, slice_)
    return PredictionFile.of(files[-1]) if files else None


def scored_by(work: Workspace, teacher: Teacher, slice_: Slice) -> str | None:
    """Which checkpoint scored which inputs, by the slice's newest file."""
    newest = newest_file(work, teacher, slice_)
    return newest.scored if newest is not None else None


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
    return is_whole(path) and as_written(path, by_bytes=True)


def named_checkpoints(work: Workspace, teacher: Teacher) -> set[str]:
    """Every checkpoint that stored predictions name."""
    paths = work.state.predictions(teacher.name).glob("slice=*/*.parquet")
    return {PredictionFile.of(path).checkpoint for path in paths}


def already_stored(work: Workspace, teacher: Teacher, slice_: Slice, scorer: Scorer, inputs: str) -> Stored | None:
    """The newest file, if it holds what scoring again would write, and the rows that were refused are there too."""
    files, refused = files_of(work, teacher, slice_), work.quarantine(teacher.view)
    if not files or not refused.sound(slice_) or PredictionFile.of(files[-1]).scored != f"{scorer.checkpoint}-{inputs}":
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
    impressions: Callable[[], Iterable[pl.DataFrame]],
    logits: np.ndarray,
    scorer: Scorer,
    inputs: str,
    run_id: str,
    seconds: float = 0.0,
) -> Stored:
    """Append a run's predictions of a slice; a later run supersedes by its ``created_timestamp``.

    Args:
        impressions: gives ``impression_id`` and ``event_timestamp`` of N rows, in parts; asked for twice, since what is
            refused is written before the rest.
        logits: (N, T) float32, one column a task of the teacher.
        inputs: digest of the inputs that were scored.
        seconds: how long scoring took.
    """
    created = work.now()
    columns = {
        "created_timestamp": pl.lit(created, pl.Datetime("us", "UTC")),
        "checkpoint": pl.lit(scorer.checkpoint),
        "trained_until": pl.lit(scorer.trained_until, pl.Datetime("us", "UTC")),
        "run_id": pl.lit(run_id),
    }

    def split() -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
        start = 0
        for part in impressions():
            frame = part.select("impression_id", "event_timestamp").with_columns(**columns)
            yield split_leaks(_with_scores(frame, teacher, logits[start : start + part.height]))
            start += part.height

    leaks = work.quarantine(teacher.view).write(slice_, (refused for _, refused in split()))
    file = PredictionFile(f"{created:%Y%m%dT%H%M%S%f}", scorer.checkpoint, inputs)
    path = work.state.predictions(teacher.name) / slice_.folder / file.name
    size, notes = work.project.stream.part_rows, {SECONDS: round(seconds, 3)}
    kept = write_stored((rows for rows, _ in split()), path, _made_of(scorer, inputs), notes=notes, part_rows=size)
    return Stored(rows=kept.rows, leaks=leaks.rows, reused=False, checkpoint=scorer.checkpoint, path=path)


def _with_scores(frame: pl.DataFrame, teacher: Teacher, logits: np.ndarray) -> pl.DataFrame:
    """Rows with (N, T) logits, and the probabilities that they stand for."""
    tasks = [ScoreColumns(task) for task in teacher.tasks]
    scores = pl.DataFrame({task.logit: logits[:, index].astype(np.float32) for index, task in enumerate(tasks)})
    return frame.hstack(scores).with_columns(
        (1 / (1 + (-pl.col(task.logit)).exp())).cast(pl.Float32).alias(task.probability) for task in tasks
    )
