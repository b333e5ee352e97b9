"""Drift: false alarms on a stationary stream, and what upkeep is worth on streams that change.

    python -m benchmarks.drift [--slices 60] [--only stationary] [--seeds 3]

Belongs here: worlds, policies, the table. Not here: the measures (pipeline/drift/).

One student learns from labels on every slice, and all its checkpoints are kept. Then policies are played over them:
who serves slice t is a checkpoint that the policy chose by what was known before. ``current``: the newest that labels
allow.
``upkeep``: one that stays until the drift report asks for training; then it is the newest. ``never``: one that stays.
Freshness refreshes nobody here, so that only drift does.
"""

import argparse
import logging
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.harness import machine
from exfm.learning import Student
from exfm.networks import DCNv2
from exfm.project import Project
from exfm.simulation import Event, Simulation
from exfm.state import State
from models.learner import Learner
from models.metrics import evaluate
from models.state import learner_state, load_states
from pipeline.drift.findings import Finding, Judged, of_inputs, of_judged
from pipeline.drift.profile import of_surface, profiles
from pipeline.evaluation.slice_metrics import prediction_histogram
from pipeline.registry.specs import member_of
from pipeline.slices.scores import scores_of
from pipeline.slices.slice_inputs import students_columns
from pipeline.slices.supervised_slice import SupervisedSlice, rows_name, without_teachers
from pipeline.studies.replay import Replay
from pipeline.training.joint_training import fit_parts
from pipeline.workspace import Workspace
from projects.simulated import PROJECT

EVENT_DAY, WARM_UP, LAG = 30, 12, 2  # slices; a checkpoint of slice t serves t + LAG
STILL = Simulation(
    impressions_per_day=8_000,
    users=2_000,
    items=300,
    new_users_per_day=0,
    new_items_per_day=0,
    half_life_days=1e6,
    drift="none",
)
WORLDS: dict[str, tuple[Event, ...]] = {
    "stationary": (),
    "taste jumps, a third": (Event(kind="taste", day=EVENT_DAY, strength=0.33),),
    "taste jumps, two thirds": (Event(kind="taste", day=EVENT_DAY, strength=0.67),),
    "taste jumps, all": (Event(kind="taste", day=EVENT_DAY, strength=1.0),),
    "rates x 1.5": (Event(kind="rates", day=EVENT_DAY, strength=1.5),),
    "rates x 2": (Event(kind="rates", day=EVENT_DAY, strength=2.0),),
    "half of a column null": (Event(kind="null", day=EVENT_DAY, strength=0.5, of="device"),),
    "a column stuck": (Event(kind="stuck", day=EVENT_DAY, strength=1.0, of="device"),),
}


def project_of(name: str, slices: int, seed: int) -> Project:
    """The default project's click student alone, in a world that holds still but for the events."""
    stream = replace(PROJECT.stream, until=PROJECT.stream.first_slice + slices * PROJECT.stream.slice_length)
    student = replace(
        PROJECT.student("feed_click_both"), name="click", teacher=None, distillation=None, lead=None,
        inputs=("user_id", "item_id", "device", "country", "item_activity"),
        network=DCNv2(embedding=8, cross=1, hidden=(32,)),
    )  # fmt: skip
    simulation = replace(STILL, events=WORLDS[name], seed=seed)
    views = tuple(view for view in PROJECT.feature_views if view.name == "item_activity")
    return replace(
        PROJECT, name="drift", stream=stream, feature_views=views, teachers=(), prediction_views=(),
        students=(student,), simulation=simulation,
    )  # fmt: skip


def made(project: Project, folder: Path) -> Workspace:
    """A workspace whose inputs and labels are stored."""
    import dagster as dg

    logging.disable(logging.INFO)  # a line a slice and table

    from exfm_assets.definitions import build_defs

    work = Workspace(project, State(folder=folder / "state", log=folder / "log"))
    graph = build_defs(work).resolve_asset_graph()
    wanted = dg.AssetSelection.assets("logged_inputs", "labels").upstream().resolve(graph)
    keys = [slice_.key for slice_ in project.stream.slices(project.stream.first_slice, work.now())]
    defs = build_defs(work)
    job = defs.resolve_implicit_global_asset_job_def()
    result = job.get_subset(asset_selection=set(wanted)).execute_in_process(
        tags={"dagster/asset_partition_range_start": keys[0], "dagster/asset_partition_range_end": keys[-1]},
        instance=dg.DagsterInstance.ephemeral(),
        raise_on_error=True,
    )
    assert result.success
    return work


@dataclass
class Chain:
    """All checkpoints of a student over a replay, and the evaluation of any of them on any slice."""

    work: Workspace
    student: Student

    def __post_init__(self) -> None:
        self.replay = Replay.of(self.work, "cpu", students_columns(self.work.project, [self.student]))
        member = member_of(self.work.project, self.student)
        self.learner = Learner([member], self.student.training, "cpu")
        rows = rows_name(self.student.surface)
        self.slices = [SupervisedSlice(inputs, self.replay.stream, without_teachers) for inputs in self.replay.inputs]
        self.states = []
        for supervised in self.slices:
            fit_parts(self.learner, supervised.parts(rows), supervised.slice.key)
            self.states.append({name: value.clone() for name, value in learner_state(self.learner, 0).items()})
        self._judged: dict[tuple[int, int], Judged] = {}

    def judged(self, index: int, learnt: int) -> Judged:
        """Slice ``index`` as the checkpoint of slice ``learnt`` predicts it."""
        if (index, learnt) not in self._judged:
            load_states(self.learner, [self.states[learnt]], "chain")
            rows = rows_name(self.student.surface)
            logits = scores_of([self.learner], self.slices[index].parts(rows))[0][:, 0]
            labels = self.slices[index].labels(self.student.task, rows)
            known = np.isfinite(labels)
            metrics = evaluate(logits[known], labels[known])
            self._judged[index, learnt] = Judged(
                index, learnt, int(labels[known].sum()), metrics["ne"], metrics["calibration"],
                histogram=prediction_histogram(logits),
            )  # fmt: skip
        return self._judged[index, learnt]


Policy = Callable[[int, int, list[Finding]], int]  # slice, what serves, findings that act -> what serves next


def played(chain: Chain, policy: Policy) -> tuple[list[Judged], list[Finding]]:
    """Serve slice after slice, looking for drift as each is judged: what was judged, and why it was refreshed."""
    limits, mine = chain.work.project.drift, _profiles(chain)
    columns = chain.work.project.columns_of(chain.student.inputs, where="")
    served, judged, reasons = WARM_UP - LAG, [], []
    for index in range(WARM_UP, len(chain.slices)):
        judged.append(chain.judged(index, served))
        until = {at: profile for at, profile in mine.items() if at <= index}
        found = [
            *of_judged(judged, limits, served),
            *of_inputs(until, [*columns.ids, *columns.features], limits, served),
        ]
        acting = [finding for finding in found if finding.acts]
        after = policy(index, served, acting)
        if acting and after != served:
            reasons.append(replace(acting[0], index=index))
        served = after
    return judged, reasons


def _profiles(chain: Chain) -> dict[int, dict[str, dict[str, int]]]:
    slices = [supervised.slice for supervised in chain.slices]
    return {
        index: of_surface(profile, chain.student.surface) for index, profile in profiles(chain.work, slices).items()
    }


POLICIES: dict[str, Policy] = {
    "current": lambda index, served, acting: index - LAG + 1,
    "upkeep": lambda index, served, acting: index - LAG + 1 if acting else served,
    "never": lambda index, served, acting: served,
}


def rows_of(name: str, slices: int, seeds: int, console: Console) -> Iterator[dict[str, object]]:
    """One row a seed of a world."""
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as folder, console.status(f"{name}, seed {seed + 1} of {seeds}"):
            project = project_of(name, slices, seed=100 + seed)
            chain = Chain(made(project, Path(folder)), project.students[0])
            runs = {policy: played(chain, rule) for policy, rule in POLICIES.items()}
        ne = {policy: {each.index: each.ne for each in judged} for policy, (judged, _) in runs.items()}
        reasons = runs["upkeep"][1]
        event = EVENT_DAY if WORLDS[name] else slices
        later = [reason for reason in reasons if reason.index >= event]
        yield {
            "false": sum(reason.index < event for reason in reasons),
            "quiet": event - WARM_UP,
            "seen": later[0].index - event + 1 if later else None,
            "by": later[0].measure if later else "",
            "refreshed": len(later),
            "back": back_after(ne, event, later[0].index) if later else None,
            **{f"{policy}/{span}": _gap(ne, policy, event, span) for policy in ("upkeep", "never") for span in SPANS},
        }


def back_after(
    ne: dict[str, dict[int, float]], event: int, seen: int, within: float = 0.1, over: int = 3
) -> int | None:
    """Slices after an event until upkeep is back; ``None``: never, or nothing was lost.

    It is once its NE, over three slices, is above that of the current checkpoint by at most a tenth of what that of
    ``never`` is.
    """
    last = max(ne["current"])
    for index in range(seen + 1, last - over + 2):
        span = range(index, index + over)
        mine, lost = (sum(ne[policy][at] / ne["current"][at] - 1 for at in span) for policy in ("upkeep", "never"))
        if lost > 0 and mine <= within * lost:
            return index - event
    return None


SPANS = {"before": (-8, 0), "first five": (0, 5), "from the tenth": (10, 30)}


def _gap(ne: dict[str, dict[int, float]], policy: str, event: int, span: str) -> float:
    """Mean relative NE above that of the current checkpoint over slices of a span about the event, in percent."""
    first, last = SPANS[span]
    slices = [index for index in ne[policy] if event + first <= index < event + last]
    gaps = [100 * (ne[policy][index] / ne["current"][index] - 1) for index in slices]
    return float(np.mean(gaps)) if gaps else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", choices=list(WORLDS), action="append")
    given = parser.parse_args()
    console = Console(width=190)
    title = "drift: means over seeds; NE above that of the current checkpoint in %"
    table = Table(title=title, title_justify="left")
    gaps = [f"{policy}/{span}" for policy in ("upkeep", "never") for span in SPANS]
    for column in ("world", "alarms / quiet slices", "seen after", "back after", "by", "refreshes after", *gaps):
        table.add_column(column)
    for name in given.only or WORLDS:
        rows = list(rows_of(name, given.slices, given.seeds, console))
        seen = [str(row["seen"] or "not") for row in rows] if WORLDS[name] else []
        back = [str(row["back"] if row["back"] is not None else "not") for row in rows] if WORLDS[name] else []
        by = sorted({str(row["by"]) for row in rows} - {""})
        means = {column: np.mean([float(str(row[column])) for row in rows]) for column in ("refreshed", *gaps)}
        alarms, quiet = (sum(int(str(row[column])) for row in rows) for column in ("false", "quiet"))
        table.add_row(
            name, f"{alarms} / {quiet}", ", ".join(seen), ", ".join(back), ", ".join(by), f"{means['refreshed']:.1f}",
            *(f"{means[column]:+.2f}" for column in gaps),
        )  # fmt: skip
    console.print(table)
    console.print(f"{machine()['cpu']}, {machine()['cores']} cores, {given.seeds} seeds, {given.slices} slices a world")


if __name__ == "__main__":
    main()
