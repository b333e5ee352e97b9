"""What is declared of serving is what the graph delivers: what it loads, what it leaves to others, how late it is."""

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import cast

import pytest

from exfm.errors import DeclarationError
from exfm.feature_views import FeatureView
from exfm.history_views import HistoryView
from exfm.online import late_sentence, later_than_declared
from exfm.project import Project
from exfm.state import State
from exfm_assets import metadata_keys as keys
from pipeline.workspace import Workspace
from tests.graph.runs import run
from tests.tiny import tiny_project

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
LOADED = '+key:"online_store" or +key:"features/user_history"'


def _live(delay: timedelta, *, until: datetime | None = None) -> Project:
    """Two online views of a live stream: one that the graph loads, one that another job pushes."""
    tiny = tiny_project()
    items = replace(cast(FeatureView, tiny.view("item_activity")), delay=delay)
    pushed = replace(cast(HistoryView, tiny.view("user_history")), pushed=True)
    return replace(
        tiny, stream=replace(tiny.stream, until=until), feature_views=(items, pushed), prediction_views=(), teachers=(),
        students=(),
    )  # fmt: skip


def _metadata(work: Workspace) -> dict[str, object]:
    ran = run(work, last="2026-01-02", select=LOADED)
    assert ran.success
    (event,) = [
        materialization
        for materialization in ran.get_asset_materialization_events()
        if materialization.asset_key.path == ["online_store"]
    ]
    return {name: value.value for name, value in event.materialization.metadata.items()}


def _at(folder: Path, project: Project, late: timedelta) -> Workspace:
    """A workspace whose clock stands so long after the second slice's end."""
    moment = project.stream.slice_at(1).end + late
    return Workspace(project, State(folder=folder / "tiny", log=folder / "tiny" / "log"), now=lambda: moment)


def test_the_graph_loads_what_it_promises_and_says_when_it_is_late(tmp_path: Path) -> None:
    work = _at(tmp_path, _live(5 * MINUTE), 12 * MINUTE)
    metadata = _metadata(work)
    assert metadata["loaded_until/item_activity"] == work.project.stream.slice_at(1).end.isoformat()
    assert metadata[f"{keys.LATE_SECONDS}/item_activity"] == 7 * 60
    # What another job pushes is not loaded over by the older values of a slice's end.
    assert not any(name.endswith("/user_history") for name in metadata)
    table = work.features("user_history")
    users = table.read(table.stored(work.project.stream))["user_id"].unique().to_list()
    served = work.store.get_online_features(["user_history:last"], [{"user_id": user} for user in users]).to_dict()
    assert len(users) > 10 and set(served["last"]) == {None}


def test_a_load_in_time_is_not_late(tmp_path: Path) -> None:
    metadata = _metadata(_at(tmp_path, _live(15 * MINUTE), 12 * MINUTE))
    assert "loaded_until/item_activity" in metadata
    assert not any(name.startswith(keys.LATE_SECONDS) for name in metadata)


@pytest.mark.parametrize(("delay", "after", "late"), [(0, 7, 7), (5, 7, 2), (7, 7, 0), (10, 7, 0)])
def test_lateness_is_what_the_delay_does_not_cover(delay: int, after: int, late: int) -> None:
    project = _live(delay * MINUTE)
    view, stream = project.feature_views[0], project.stream
    slice_ = stream.slice_at(3)
    lateness = later_than_declared(view, stream, slice_, slice_.end + after * MINUTE)
    assert lateness == late * MINUTE
    closed = replace(stream, until=stream.slice_at(9).end)  # a replayed log's clock is not ours
    assert later_than_declared(view, closed, slice_, slice_.end + after * MINUTE) == timedelta(0)
    sentence = late_sentence(view, stream, lateness)
    assert sentence.startswith("FeatureView(item_activity).delay: ")
    assert f"delay=timedelta(minutes={max(delay, after)})" in sentence or "seconds=" in sentence


def test_a_student_reads_only_what_is_stamped_when_the_graph_loads() -> None:
    tiny = tiny_project()
    student, teacher = tiny.students[0], tiny.teachers[0]
    hourly = replace(cast(FeatureView, tiny.view("item_activity")), name="hourly", every=HOUR)

    def project(view: FeatureView, *, student_reads: bool) -> Project:
        learner = replace(student, inputs=(*student.inputs, "hourly") if student_reads else student.inputs)
        scorer = replace(teacher, inputs=(*teacher.inputs, "hourly"))
        return replace(tiny, feature_views=(*tiny.feature_views, view), students=(learner,), teachers=(scorer,))

    with pytest.raises(DeclarationError, match=r"inputs: 'hourly' has every=1:00:00, but the online store is loaded"):
        project(hourly, student_reads=True)
    project(hourly, student_reads=False)  # a teacher scores a slice when it has ended
    project(replace(hourly, pushed=True), student_reads=True)
    project(replace(hourly, every=tiny.stream.slice_length), student_reads=True)
