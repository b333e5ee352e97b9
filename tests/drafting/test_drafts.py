"""Drafts of small logs of many shapes: each loads as it is, is laid out as ruff does it, and loses no row."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from exfm.inputs import Bag, Number, Vector
from exfm.log_columns import Column
from exfm.source_views import SourceView
from tests.drafting.drafts import Drafted, complaints, drafted
from tests.drafting.logs import ROWS, SHAPES

ALL_ROWS = {"folders": 1_500, "campaigns": 1_200}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Drafted]:
    drafts = {}
    for name, write in SHAPES.items():
        folder = tmp_path_factory.mktemp("logs") / name
        write(folder)
        drafts[name] = drafted(folder, tmp_path_factory.mktemp("drafts"))
    return drafts


@pytest.mark.parametrize("shape", SHAPES)
def test_ruff_has_nothing_to_say(made: dict[str, Drafted], shape: str) -> None:
    assert complaints(made[shape].file) == ""


@pytest.mark.parametrize("shape", SHAPES)
def test_no_row_is_lost(made: dict[str, Drafted], shape: str, tmp_path: Path) -> None:
    account = made[shape].imported(tmp_path)
    for table in account.tables:
        assert table.quarantined == 0 and table.left_out == 0 and table.kept == table.read, table.sentence()
    assert account.tables[0].kept == ALL_ROWS.get(shape, ROWS)


def kinds(columns: tuple[Column | Number | Vector | Bag, ...]) -> dict[str, str]:
    return {each.name: type(each).__name__ for each in columns}


def test_camel_case_and_milliseconds(made: dict[str, Drafted]) -> None:
    draft, stream = made["camel"], made["camel"].project.stream
    log = draft.project.log
    assert log is not None
    (files,) = log.impressions
    assert files.time is not None and (files.time.of, files.time.unit) == ("eventTime", "ms")
    assert files.id == "impressionId" and files.paths == ("log.csv",)
    assert (stream.user.name, stream.user.dtype, stream.item.name) == ("user_id", int, "item_id")
    assert [(task.name, task.label, task.ceiling) for task in stream.tasks] == [
        ("is_click", "is_click", None), ("dwell_seconds", "dwell_seconds", 10.0)
    ]  # fmt: skip
    assert kinds(stream.numbers) == {"price": "Number"} and stream.numbers[0].treatment == "none"
    assert [column.name for column in stream.context] == ["device_type"] and stream.surfaces == ("all",)
    assert stream.slice_length == timedelta(days=1) and stream.first_slice == datetime(2026, 1, 31, tzinfo=UTC)
    assert stream.until == datetime(2026, 2, 8, tzinfo=UTC)
    assert {"constant", "nothing", "clickTime"} <= draft.draft.left_out.keys()
    assert "afterwards" in draft.draft.left_out["clickTime"]


def test_packed_tsv_in_parts(made: dict[str, Drafted]) -> None:
    draft, stream = made["tabs"], made["tabs"].project.stream
    assert (stream.user.name, stream.item.name, stream.surface.name) == ("visitor", "sku", "channel")
    assert set(stream.surfaces) == {"web", "app"} and stream.user.dtype is str
    assert [(bag.name, bag.dtype) for bag in stream.bags] == [("tags", int)] and "bid" in kinds(stream.numbers)
    assert draft.project.log is not None
    (files,) = draft.project.log.impressions
    assert files.column("tags").split == "^" and files.paths == ("part-*.tsv.gz",) and files.id is None
    assert "zone='Europe/Berlin'" in draft.why("time")
    assert {student.surface for student in draft.project.students} == {"app", "web"}


def test_objects_lists_and_requests_of_json(made: dict[str, Drafted]) -> None:
    draft, stream = made["nested"], made["nested"].project.stream
    assert draft.project.log is not None
    (files,) = draft.project.log.impressions
    assert {column.name: column.of for column in files.columns}["device_os"] == "$.device.os"
    assert {column.name for column in stream.context} == {"device_os", "device_screen_width"}
    assert [bag.name for bag in stream.bags] == ["topics"] and [each.width for each in stream.vectors] == [3]
    assert stream.request is not None and stream.request.name == "request_id"
    assert [task.name for task in stream.tasks] == ["like"] and stream.slice_length == timedelta(hours=12)


def test_folders_say_the_time(made: dict[str, Drafted]) -> None:
    draft, stream = made["folders"], made["folders"].project.stream
    assert draft.project.log is not None
    (files,) = draft.project.log.impressions
    assert files.time is not None and files.time.sql is not None and '"hour"' in files.time.sql
    assert len(files.paths) == 1
    assert [task.name for task in stream.tasks] == ["clk", "purchase", "watch_seconds"]
    assert stream.tasks[2].ceiling is not None and stream.surface.name == "slot"
    assert {column.name for column in stream.context}.isdisjoint({"dt", "hour"})
    assert timedelta(hours=3) < stream.slice_length < timedelta(days=1)


def test_outcomes_interactions_and_profiles_of_their_own(made: dict[str, Drafted]) -> None:
    draft, project = made["clicks_apart"], made["clicks_apart"].project
    log = project.log
    assert log is not None and log.impressions[0].id == "impression_id"
    (outcomes,) = log.outcomes
    assert outcomes.id == "impression_id" and outcomes.time is not None and outcomes.time.of == "click_time"
    assert [(task.name, task.window, task.label) for task in project.stream.tasks] == [
        ("click", timedelta(minutes=10), None)
    ]
    assert log.interactions[0].paths == ("visits",) and project.reads_log("interactions")
    (users,) = (view for view in project.feature_views if isinstance(view, SourceView))
    assert users.entities == ("user_id",) and kinds(users.inputs) == {"age": "Column", "city": "Column"}
    assert "may tell of the future" in draft.text and project.stream.known_until is not None
    assert [column.name for column in project.stream.context] == ["position", "country"]


def test_two_kinds_of_files_with_ids_of_their_own(made: dict[str, Drafted]) -> None:
    draft, project = made["campaigns"], made["campaigns"].project
    stream = project.stream
    assert project.log is not None
    (files,) = project.log.impressions
    assert files.paths == ("bts_*.csv.gz", "random_*.csv.gz") and set(stream.surfaces) == {"men", "women"}
    assert files.column("user").of == ("user_feature_*",) and stream.user.dtype is str
    assert "|| '-' || item_id" in str(files.column("item_id").sql)
    (items,) = (view for view in project.feature_views if isinstance(view, SourceView))
    assert items.files is not None and items.files.column("item_id").sql == files.column("item_id").sql
    assert kinds(items.inputs) == {"item_feature_0": "Number", "item_feature_1": "Column"}
    (teacher,) = project.teachers
    affinities = {f"user_item_affinity_{item}" for item in range(6)}
    assert {"position", "item_context", *affinities} <= {*teacher.inputs}
    assert "propensity_score" not in teacher.inputs and "propensity_score" in kinds(stream.numbers)
    assert {student.name for student in project.students} == {"men_click", "women_click"}
    assert "column_0" in draft.draft.left_out


def test_odd_names(made: dict[str, Drafted]) -> None:
    stream = made["odd_names"].project.stream
    log = made["odd_names"].project.log
    assert log is not None
    (files,) = log.impressions
    assert files.separator == ";" and {"NULL", "NA"} <= {*files.nulls}
    assert (stream.user.name, stream.user.dtype, stream.item.name) == ("user_id", str, "product")
    assert stream.surface.name == "page" and set(stream.surfaces) == {"home", "search", "unknown"}
    names = {column.name for column in stream.context}
    assert {"it_s_so", "column_6", "logged_reason", "logged_task"} <= names
    assert kinds(stream.numbers) == {"grosse": "Number"}


def test_hours_as_digits(made: dict[str, Drafted]) -> None:
    draft, stream = made["compact_times"], made["compact_times"].project.stream
    assert draft.project.log is not None
    (files,) = draft.project.log.impressions
    assert files.time is not None and files.time.format == "%y%m%d%H" and files.id == "id"
    assert (stream.user.name, stream.item.name, stream.surface.name) == ("device_id", "app_id", "site_id")
    assert "free text" in draft.draft.left_out["title"]


def test_day_and_month_could_be_swapped(made: dict[str, Drafted]) -> None:
    draft, stream = made["months_first"], made["months_first"].project.stream
    assert draft.project.log is not None
    (files,) = draft.project.log.impressions
    assert files.time is not None and files.time.format == "%m/%d/%Y %I:%M:%S %p"
    assert "README.txt" in draft.why("not read") and "meta.json" in draft.why("not read")
    assert stream.first_slice == datetime(2026, 4, 2, tzinfo=UTC)
    assert kinds(stream.numbers) == {f"column_{number}": "Number" for number in range(3)}
