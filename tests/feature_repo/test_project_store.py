"""A project's feature store: what is applied, the two clocks, the command line, and that projects do not mix."""

import os
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import FeatureService, FeatureStore

from exfm.distillation import AuxiliaryHead
from exfm.errors import DeclarationError
from exfm.feature_views import FeatureView
from exfm.learning import Student, Teacher
from exfm.load import load_project
from exfm.log_columns import Column, Task
from exfm.networks import DCNv2
from exfm.project import Project
from exfm.state import ROOT, State
from exfm.stream import Stream
from feast_asof.errors import RetrievalError
from feature_repo.guards import mask_leaks
from feature_repo.project_views import check_roles, objects_of
from feature_repo.store import apply, load_online, open_store, read_inputs, read_supervision
from tests.feature_repo.worlds import HOUR, START, UTC_US, at

DAY = timedelta(days=1)
NETWORK = DCNv2(hidden=(4,))


def _project() -> Project:
    stream = Stream(
        first_slice=START,
        slice_length=DAY,
        user=Column(name="user_id", rows=8),
        item=Column(name="item_id", rows=8),
        surface=Column(name="surface", rows=8, dtype=str),
        surfaces=("feed", "search"),
        tasks=(Task(name="click", window=HOUR),),
    )
    by_user = FeatureView(
        name="user_activity",
        entities=("user_id",),
        counts=("click",),
        rates=("click",),
        windows=(6 * HOUR,),
        every=HOUR,
        pushed=True,  # a student reads it more finely than a slice
    )
    by_surface = FeatureView(
        name="user_surface_activity",
        entities=("user_id", "surface"),
        counts=("click",),
        windows=(6 * HOUR,),
        every=HOUR,
    )
    teacher = Teacher(
        name="large", tasks=("click",), inputs=("user_id", "user_activity", "user_surface_activity"), network=NETWORK
    )
    rich = Student(
        name="rich", surface="feed", task="click", inputs=("user_id", "user_activity:click_rate_6h"), network=NETWORK,
        teacher="large", distillation=AuxiliaryHead(),
    )  # fmt: skip
    plain = Student(name="plain", surface="feed", task="click", inputs=("user_id",), network=NETWORK)
    return Project(
        name="tiny", stream=stream, feature_views=(by_user, by_surface), teachers=(teacher,), students=(rich, plain)
    )


PROJECT = _project()


def _write(folder: Path, name: str, rows: list[dict[str, object]], types: dict[str, pa.DataType]) -> None:
    schema = pa.schema([(key, types.get(key, UTC_US if key.endswith("_timestamp") else None)) for key in rows[0]])
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / name)


def _clocks(hour: float, delay: float = 0) -> dict[str, object]:
    return {"event_timestamp": at(hour), "created_timestamp": at(hour + delay)}


@pytest.fixture
def state(tmp_path: Path) -> State:
    """Two stamps of features, the second one an hour late; an impression at 8:00 of Jan 1, predicted twice."""
    state = State(folder=tmp_path / "state" / "tiny", log=tmp_path)
    types = {"user_id": pa.int64(), "surface": pa.string(), "click_6h": pa.int64(), "click_rate_6h": pa.float32()}
    both = [(2, 0, 20, 0.25), (7, 2, 70, 0.75)]
    rows = [{"user_id": 1, **_clocks(h, d), "click_6h": c, "click_rate_6h": r} for h, d, c, r in both]
    _write(state.features("user_activity"), "slice=2026-01-01/part.parquet", rows, types)
    rows = [{"user_id": 1, "surface": s, **_clocks(2), "click_6h": c} for s, c in (("feed", 5), ("search", 6))]
    _write(state.features("user_surface_activity"), "slice=2026-01-01/part.parquet", rows, types)
    _predict(state, "c1", written=at(24), trained_until=at(-1), probability=0.10)
    _predict(state, "c2", written=at(96), trained_until=at(72), probability=0.15)
    return state


def _predict(state: State, checkpoint: str, *, written: object, trained_until: object, probability: float) -> None:
    row = {
        "impression_id": 1, "event_timestamp": at(8), "created_timestamp": written, "checkpoint": checkpoint,
        "trained_until": trained_until, "run_id": "r", "click_logit": -probability, "click_probability": probability,
    }  # fmt: skip
    types = {"impression_id": pa.int64(), "checkpoint": pa.string(), "trained_until": UTC_US, "run_id": pa.string()}
    types |= {"click_logit": pa.float32(), "click_probability": pa.float32()}
    _write(state.predictions("large"), f"slice=2026-01-01/{written:%d}-{checkpoint}.parquet", [row], types)


@pytest.fixture
def store(state: State) -> FeatureStore:
    apply(PROJECT, state)
    return open_store(PROJECT, state)


ENTITIES = pa.table(
    {
        "impression_id": [1, 2],
        "user_id": [1, 1],
        "surface": ["search", "feed"],
        "event_timestamp": pa.array([at(8), at(9)], UTC_US),
    }
)


def test_apply_projects_the_declaration(state: State) -> None:
    report = apply(PROJECT, state)
    assert report.entities == ("user_id", "surface", "impression_id")
    assert report.views == ("user_activity", "user_surface_activity", "teacher_large")
    assert report.services == ("logged_inputs", "rich_inputs", "rich_supervision")
    assert report.removed == ()
    view = open_store(PROJECT, state).get_feature_view("teacher_large")
    assert (view.ttl, view.online, view.tags) == (timedelta(0), False, {"role": "supervision", "project": PROJECT.name})


def test_applying_again_changes_nothing_and_what_is_not_declared_goes(state: State) -> None:
    first = apply(PROJECT, state)
    store = open_store(PROJECT, state)
    held = {view.name: view.last_updated_timestamp for view in store.list_feature_views()}
    assert apply(PROJECT, state) == first
    assert {view.name: view.last_updated_timestamp for view in store.list_feature_views()} == held
    alone = replace(PROJECT, feature_views=(), teachers=(), students=(PROJECT.students[1],))
    assert set(apply(alone, state).removed) == {*first.services, *first.views, "user_id", "surface"}
    assert store.list_feature_views() == [] and store.list_feature_services() == []
    assert [source.name for source in store.list_data_sources()] == []


def test_inputs_are_those_known_at_the_impression(store: FeatureStore) -> None:
    """The row stamped 7:00 was written at 9:00: the impression of 8:00 could not have it."""
    (table,) = read_inputs(store, ENTITIES, "logged_inputs")
    assert table.column_names == [*ENTITIES.column_names, *PROJECT.logged_columns.features]
    assert table["user_activity__click_6h"].to_pylist() == [20, 70]
    assert table["user_activity__click_rate_6h"].to_pylist() == [0.25, 0.75]
    assert table["user_surface_activity__click_6h"].to_pylist() == [6, 5]


def test_supervision_is_what_was_known_at_as_of(store: FeatureStore, state: State) -> None:
    def seen(hours: float) -> list[object]:
        table = read_supervision(store, ENTITIES, at(hours), "rich_supervision")
        assert table.select(ENTITIES.column_names).equals(ENTITIES)
        return table["teacher_large__click_probability"].to_pylist()

    assert seen(12) == [None, None]
    assert seen(48) == [pytest.approx(0.10), None]
    assert seen(120) == [pytest.approx(0.15), None]
    _predict(state, "c3", written=at(144), trained_until=at(-1), probability=0.20)
    assert seen(48) == [pytest.approx(0.10), None]
    assert seen(150) == [pytest.approx(0.20), None]


def test_the_latest_prediction_may_leak_and_is_masked(store: FeatureStore) -> None:
    table = read_supervision(store, ENTITIES, at(120), "rich_supervision")
    masked, count = mask_leaks(pl.DataFrame(pl.from_arrow(table)), "teacher_large")
    assert count == 1
    assert masked["teacher_large__checkpoint"].to_list() == [None, None]


def test_sql_asks_the_same_as_arrow(store: FeatureStore, tmp_path: Path) -> None:
    pq.write_table(ENTITIES, tmp_path / "asked.parquet")
    sql = f"SELECT * FROM read_parquet('{tmp_path / 'asked.parquet'}')"
    (by_sql,), (by_table,) = (read_inputs(store, each, "logged_inputs") for each in (sql, ENTITIES))
    assert by_sql.equals(by_table)
    supervision = read_supervision(store, sql, at(48), "rich_supervision")
    assert set(supervision.column_names) == set(
        read_supervision(store, ENTITIES, at(48), "rich_supervision").column_names
    )
    assert supervision["event_timestamp"].to_pylist() == ENTITIES["event_timestamp"].to_pylist()
    assert supervision["teacher_large__checkpoint"].to_pylist() == ["c1", None]


def test_an_unknown_service_is_named(store: FeatureStore) -> None:
    with pytest.raises(RetrievalError, match="service: 'plain_inputs' is not in the registry"):
        read_inputs(store, ENTITIES, "plain_inputs")


def test_online_serves_what_was_loaded(store: FeatureStore) -> None:
    load_online(store, ["user_activity"], at(0), at(6))
    service = store.get_feature_service("rich_inputs")
    online = store.get_online_features(service, [{"user_id": 1}], full_feature_names=True).to_dict()
    assert online["user_activity__click_rate_6h"] == [0.25]


def test_supervision_can_not_be_an_input(state: State) -> None:
    objects = objects_of(PROJECT, state)
    teacher = objects.views["teacher_large"]
    check_roles(objects.all())
    for planted in (
        FeatureService(name="rich_inputs", features=[teacher[["click_logit"]]]),
        FeatureService(name="logged_inputs", features=[teacher.with_name("innocent")]),
        FeatureService(name="other", features=[teacher], tags={"role": "input"}),
    ):
        with pytest.raises(DeclarationError, match=f"{planted.name}.*'teacher_large' has role 'supervision'"):
            check_roles([*objects.all(), planted])


def _feast(state: Path, project: str, *command: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """The command line as a user has it; PYTHONPATH stands for the installed package."""
    environment = {**os.environ, "EXFM_STATE": str(state), "EXFM_PROJECT": project, "PYTHONPATH": str(ROOT)}
    environment.pop("EXFM_DATA", None)
    feast = Path(sys.executable).with_name("feast")
    line = [str(feast), "-c", str(ROOT / "feature_repo"), *command]
    return subprocess.run(line, env=environment, cwd=cwd, capture_output=True, text=True, check=True, timeout=120)


@pytest.mark.slow
def test_command_line_and_two_projects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Projects share names of views; each has its own registry, wherever the command or Python is started."""
    _feast(tmp_path, "simulated", "apply")
    assert not (tmp_path / "news").exists()
    listed = _feast(tmp_path, "simulated", "feature-views", "list").stdout
    assert "user_activity" in listed and "teacher_large" in listed
    other = _feast(tmp_path, "news", "feature-views", "list", cwd=tmp_path)
    assert "user_activity" not in other.stdout
    assert "no Feast registry at" in other.stderr and "feast apply" in other.stderr
    monkeypatch.setenv("EXFM_STATE", str(tmp_path))
    monkeypatch.setenv("EXFM_PROJECT", "simulated")
    monkeypatch.chdir(tmp_path)
    by_path = FeatureStore(repo_path=str(ROOT / "feature_repo"))
    assert {view.name for view in by_path.list_feature_views()} >= {"user_activity", "teacher_large"}
    project = load_project("simulated")
    folder = tmp_path / project.name
    ours = open_store(project, State(folder=folder, log=folder / "log"))
    assert {s.name for s in ours.list_feature_services()} == set(
        apply(project, State(folder=folder, log=folder)).services
    )
    kept = sorted(path.name for path in (folder / "feast").iterdir() if not path.name.startswith("."))
    journals = {"online.db-wal", "online.db-shm"}  # of a connection that is open still
    assert [name for name in kept if name not in journals] == ["online.db", "registry.db"]
    source = by_path.get_feature_view("user_activity").batch_source
    assert source.path == str(State(folder=folder, log=folder).features("user_activity"))


def test_a_deleted_state_is_opened_and_filled_anew(state: State) -> None:
    apply(PROJECT, state)
    for path in state.feast.iterdir():
        path.unlink()
    assert {view.name for view in open_store(PROJECT, state).list_feature_views()} >= {"user_activity", "teacher_large"}


def test_what_was_declared_since_is_applied_when_the_store_is_opened(
    state: State, caplog: pytest.LogCaptureFixture
) -> None:
    first, *others = PROJECT.students
    apply(replace(PROJECT, students=tuple(others)), state)
    names = {service.name for service in open_store(PROJECT, state).list_feature_services()}
    assert f"{first.name}_inputs" in names
    assert f"the Feast registry lacks service {first.name}_inputs" in caplog.text
    caplog.clear()
    open_store(PROJECT, state)  # all is there
    open_store(replace(PROJECT, students=tuple(others)), state)  # more than declared is no fault: apply removes it
    assert not caplog.text
    grown = replace(first, inputs=("user_id", "user_activity"))
    changed = open_store(replace(PROJECT, students=(grown, *others)), state)
    (held,) = changed.get_feature_service(f"{first.name}_inputs").feature_view_projections
    assert {feature.name for feature in held.features} == {"click_6h", "click_rate_6h"}
