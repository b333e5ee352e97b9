"""A growing stream on a clock that a test turns: its log lands, ticks ask, and what they ask for is run.

Belongs here: the project, the clock, landing and running. Not here: what a test expects (test_scenarios.py).

Everything is real but the clock and the processes: a log on disk that somebody else wrote, the conditions, the assets,
one Dagster instance. What a tick asks for is run as the sensor sends it, in one process.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.definitions.freshness import FreshnessState

from exfm.distillation import AuxiliaryHead
from exfm.learning import Gate
from exfm.project import Project
from exfm.simulation import Simulation
from exfm.state import State
from exfm_assets import metadata_keys as keys
from exfm_assets.definitions import build_defs
from exfm_assets.freshness_marks import mark
from exfm_assets.range_runs import runs_of
from pipeline.releases.release import current_release
from pipeline.streams.simulated_log import write_log
from pipeline.streams.simulator import simulate
from pipeline.upkeep.ages import ages
from pipeline.upkeep.stored_state import StoredState
from pipeline.verify.tables_current import stale
from pipeline.workspace import Workspace
from tests.graph.clockwork import requested_by
from tests.graph.runs import run, sentences
from tests.tiny import tiny_project

Made = dict[str, list[str]]  # asset -> slices, oldest first; of an asset without slices [""] for each time


def scene_project(**changes: Any) -> Project:
    """A growing log that somebody else writes, one view, a teacher, two students; days."""
    tiny = tiny_project()
    seen = ("user_id", "item_id", "device")
    students = tuple(
        replace(
            student, inputs=seen, lead=None, distillation=AuxiliaryHead(weight=2.0),
            gate=Gate(tolerance=1.0, judged_rows=100, calibration=10.0, rows=100),
        )
        for student in tiny.students
    )  # fmt: skip
    teacher = replace(tiny.teachers[0], inputs=(*seen, "surface", "item_activity"))
    views = tuple(view for view in tiny.feature_views if view.name == "item_activity")
    return replace(
        tiny, name="scene", simulation=None, stream=replace(tiny.stream, until=None), feature_views=views,
        prediction_views=(), teachers=(teacher,), students=students, **changes,
    )  # fmt: skip


WORLD = Simulation(impressions_per_day=900, users=150, items=40, new_users_per_day=10, new_items_per_day=4)


@dataclass
class Story:
    """What ticks asked for, what was made of it (not merely looked at), and what failed steps said."""

    asked: list[Made] = field(default_factory=list)
    made: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    failed: list[str] = field(default_factory=list)

    def asked_of(self, asset: str) -> list[str]:
        return [key for tick in self.asked for key in tick.get(asset, [])]

    @property
    def twice(self) -> dict[str, list[str]]:
        """Slices that were made more than once."""
        several = {
            asset: [key for key in set(made) if key and made.count(key) > 1] for asset, made in self.made.items()
        }
        return {asset: repeated for asset, repeated in several.items() if repeated}


class Scene:
    """A workspace, its clock, and one instance."""

    def __init__(self, folder: Path, project: Project | None = None, world: Simulation = WORLD) -> None:
        self.folder, self.world = folder, world
        self.project = project or scene_project()
        self.clock: datetime = self.project.stream.first_slice
        self.instance, self.cursor = dg.DagsterInstance.ephemeral(), None
        self.declare(self.project)

    def declare(self, project: Project) -> None:
        """Go on under another declaration of the same name, as after a change and a reload."""
        self.project = project
        state = State(folder=self.folder / "state", log=self.folder / "log")
        self.work = Workspace(project, state, now=self._now)
        self.defs = build_defs(self.work)

    def _now(self) -> datetime:
        """Time goes on a little, as everywhere: what is written later is newer."""
        self.clock += timedelta(microseconds=1)
        return self.clock

    def day(self, days: float) -> "Scene":
        """Turn the clock: so many slices after the stream began."""
        self.clock = self.project.stream.first_slice + days * self.project.stream.slice_length
        return self

    def land(self, *indices: int, world: Simulation | None = None) -> "Scene":
        """Write the log of some slices, or write it again as another world would have it."""
        for index in indices:
            slice_ = self.project.stream.slice_at(index)
            write_log(self.work.state.log, simulate(world or self.world, self.project.stream, slice_), slice_)
        return self

    def key(self, index: int) -> str:
        return self.project.stream.slice_at(index).key

    def keys(self, *indices: int) -> list[str]:
        return [self.key(index) for index in indices]

    def tick(self) -> Made:
        """What the automation asks for now."""
        result = dg.evaluate_automation_conditions(
            defs=self.defs, instance=self.instance, cursor=self.cursor, evaluation_time=self.clock
        )
        self.cursor = result.cursor
        return {asset: slices or [""] for asset, slices in requested_by(result, self.defs).items()}

    def settle(self, most: int = 14) -> Story:
        """Tick, and run what is asked for, until three ticks ask for nothing.

        Raises:
            AssertionError: if that takes more ticks: it would go on for ever.
        """
        story, quiet = Story(), 0
        for _ in range(most):
            asked = self.tick()
            quiet = 0 if asked else quiet + 1
            if quiet == 3:
                return story
            if asked:
                story.asked.append(asked)
                self.run(asked, story)
        raise AssertionError(f"after {most} ticks it still asks: {story.asked[-3:]}")

    def run(self, asked: Made, story: Story) -> None:
        """Run what the automation sends of what a tick asked for, one run after the other."""
        graph, stream = self.defs.resolve_asset_graph(), self.project.stream
        sliced = {
            dg.AssetKey(asset.split("/")): {stream.slice_of(key).index for key in found}
            for asset, found in asked.items() if found != [""]
        }  # fmt: skip
        for sent in runs_of(self.work, graph, sliced):
            self._run(sent.assets, self.key(sent.first), self.key(sent.last), story)
        whole = [dg.AssetKey(asset.split("/")) for asset, found in asked.items() if found == [""]]
        if whole:
            self._run(whole, self.key(0), self.key(0), story)

    def _run(self, selected: Iterable[dg.AssetKey], first: str, last: str, story: Story) -> None:
        result = run(self.work, first, last, dg.AssetSelection.assets(*selected), self.instance)
        story.failed += sentences(result)
        for event in result.get_asset_materialization_events():
            made = event.materialization
            if not made.metadata.get(keys.REUSED, dg.MetadataValue.bool(False)).value:
                story.made[made.asset_key.to_user_string()].append(made.partition or "")

    def record_all(self) -> None:
        """Report all that is stored, as the instance of a state that was copied would have it."""
        graph, stored = self.defs.resolve_asset_graph(), StoredState(self.work)
        ended = [slice_.index for slice_ in self.project.stream.slices(self.project.stream.first_slice, self.clock)]
        for key in graph.toposorted_asset_keys:
            name = key.to_user_string()
            if not graph.get(key).is_partitioned:
                self.instance.report_runless_asset_event(dg.AssetMaterialization(key))
                continue
            unscored = [at for at in ended[:1] if name.endswith("/predictions")]  # nobody scores the first slice
            for index in sorted({*stored.stored(name), *unscored}):
                self.instance.report_runless_asset_event(dg.AssetMaterialization(key, partition=self.key(index)))

    def stale(self, asset: str) -> list[str]:
        """What the check of an asset says of its stored slices."""
        return [str(entry) for entry in stale(self.work, [asset])]

    def serves(self, student: str = "feed_click") -> str | None:
        """The slice whose checkpoint a student serves: the one before the newest, on which it was judged."""
        served = current_release(self.work, self.project.student(student))
        return None if served is None else served.slice

    def marks(self) -> dict[str, str]:
        """Dagster's freshness mark of each asset that has one, after the sensor looked."""
        mark(self.instance, ages(self.work), self.clock)
        every = [dg.AssetKey(age.asset.split("/")) for age in ages(self.work)]
        states = self.instance.get_freshness_state_records(every)
        return {key.to_user_string(): FreshnessState(record.freshness_state).value for key, record in states.items()}
