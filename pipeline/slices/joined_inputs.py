"""The inputs of a slice's impressions: columns of the log, and features that Feast joins as of each impression.

Belongs here: reading them part by part. Not here: how rows are joined (feast_asof/), the tables (exfm_assets/assets/).
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import polars as pl

from exfm.columns import FeatureColumn
from exfm.prediction_views import PredictionView
from exfm.source_views import SourceView
from exfm.stream import Slice
from pipeline.served.inputs import ServedFeatures
from pipeline.slices.provenance import slices_known
from pipeline.tables import naming_damage
from pipeline.transforms.inputs import with_calendar
from pipeline.transforms.view_rows import KeptView
from pipeline.workspace import Workspace


def joined_inputs(
    work: Workspace, slice_: Slice, service: str, views: Sequence[KeptView | PredictionView]
) -> Iterator[pl.DataFrame]:
    """A slice's impressions with what a service's views knew at each, in parts, by Feast.

    Raises:
        DataError: if a slice that is read is missing or damaged.
    """
    from feature_repo.store import read_inputs

    shown, stream = work.table("impressions"), work.project.stream
    impressions = shown.sound_path(slice_)  # a SELECT's answer would be written aside first
    for view in views:
        work.features(view.name).check(slices_known(view, stream, slice_))
    in_parts = shown.part_rows if shown.rows(slice_) > shown.part_rows else None
    with naming_damage(*(partial(work.features(view.name).check_all, stream) for view in views)):
        for part in read_inputs(work.store, impressions, service, in_parts):
            yield pl.DataFrame(part)


def served_features(work: Workspace, columns: Sequence[str]) -> ServedFeatures | None:
    """What puts features as they were served into parts of a slice; ``None`` where that is not declared."""
    declared = work.project.served
    return None if declared is None else ServedFeatures(work, declared, columns)


@dataclass
class LoggedInputs:
    """Every input of a slice that the log or a view of it has, and for how many impressions a view had any.

    Args:
        views: that are joined; none where models read columns of the log alone.

    Attributes:
        served: what a server answered of them with; ``None`` where the project does not learn from that.
    """

    work: Workspace
    slice: Slice
    views: Sequence[KeptView]
    _rows: int = 0
    _unknown: Counter[str] = field(default_factory=Counter)
    served: ServedFeatures | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.served = served_features(self.work, self.work.project.logged_columns.stored)

    def parts(self) -> Iterator[pl.DataFrame]:
        """``impression_id``, ``event_timestamp``, and the columns, in the order of the impressions."""
        stream, columns = self.work.project.stream, self.work.project.logged_columns
        if columns.of_views:
            read = joined_inputs(self.work, self.slice, "logged_inputs", self.views)
        else:  # there is nothing to join, and no service
            read = self.work.table("impressions").parts(self.slice)
        for part in read:
            whole = part if self.served is None else self.served.into(part)
            frame = with_calendar(whole, stream).select("impression_id", "event_timestamp", *columns.stored)
            self._rows += frame.height
            self._unknown.update({view.name: self._nulls(frame, view.name) for view in self.views})
            yield frame

    @staticmethod
    def _nulls(frame: pl.DataFrame, view: str) -> int:
        first = next(name for name in frame.columns if FeatureColumn.of(name).view == view)
        return frame[first].null_count()

    def _share_known(self, view: KeptView) -> float:
        return 1 - self._unknown[view.name] / max(self._rows, 1)

    def told(self) -> dict[str, object]:
        """The share of impressions for which each view had a value, and what was served."""
        known = {f"known/{view.name}": self._share_known(view) for view in self.views}
        return known | (self.served.told() if self.served is not None else {})

    def unmatched(self) -> Iterator[str]:
        """Tables of somebody else that no impression finds a row of, and what of the request log was passed over."""
        yield from () if self.served is None else self.served.sentences()
        for view in self.views:
            if isinstance(view, SourceView) and self._rows and not self._share_known(view):
                yield (
                    f"logged_inputs {self.slice.key}: no impression finds a row of {view.name}: "
                    f"compare its {', '.join(view.entities)} and its times with the log's"
                )
