"""A zone that a person names moves times, slices and windows; tasks of far apart windows get teachers of their own."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from exfm.load import load_project
from exfm_assets.draft import main
from pipeline.drafting.assembling import draft_of
from pipeline.drafting.given import Given
from pipeline.drafting.slices import DAY, cut_of, earlier_by
from pipeline.drafting.tasks import Told, horizons, main_of
from tests.drafting.drafts import Drafted, complaints, drafted
from tests.drafting.logs import events, write_csv

BERLIN = ZoneInfo("Europe/Berlin")
CHANGED = datetime(2026, 3, 25, tzinfo=BERLIN).astimezone(UTC)  # clocks go forward on the 29th


def _shop(folder: Path) -> None:
    """Times of impressions by the clock of Berlin; clicks within minutes and orders within three days, by UTC."""
    rows = events(2_000, days=8.9)
    begin = rows[0]["moment"]
    moments = [CHANGED + (each["moment"] - begin) for each in rows]
    write_csv(folder / "Ausspielungen" / "a.csv", [
        {"Kennung": f"anz-{number:08x}", "Zeit": f"{moment.astimezone(BERLIN):%Y-%m-%d %H:%M:%S}",
         "user_id": each["user"], "item_id": each["item"], "placement": ("start", "search")[number % 3 == 0]}
        for number, (moment, each) in enumerate(zip(moments, rows, strict=True))
    ])  # fmt: skip
    for name, after in (("Kaeufe", 200_000), ("Klicks", 900)):
        write_csv(folder / name / "a.csv", [
            {"Kennung": f"anz-{number:08x}", "Zeit": int(moments[number].timestamp()) + number * 7919 % after}
            for number, each in enumerate(rows) if each["click"]
        ])  # fmt: skip


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("laden")
    _shop(folder)
    return folder


def _in_berlin(shop: Path, to: Path) -> Drafted:
    file = to / "shop.py"
    assert main([str(shop), "--to", str(file), "--zone", "Europe/Berlin"]) == 0
    return Drafted(draft_of([shop], roles=Given(zone="Europe/Berlin")), file, load_project(str(file)), shop)


def test_what_to_do_about_two_clocks_stands_beside_the_time(shop: Path, tmp_path: Path) -> None:
    made = drafted(shop, tmp_path)
    told = "draft it anew with --zone Europe/"
    assert told in made.why("clocks")
    flat = " ".join(line.strip().lstrip("# ") for line in made.text.splitlines())
    beside = [part.rpartition("# ")[2] for part in flat.split("time=EventTime(")]
    assert (
        sum("Mend this first" in part and told in part for part in beside) == 2
    )  # impressions and clicks: orders take days
    assert "another zone (--zone) moves first_slice and until along" in flat
    assert complaints(made.file) == ""


def test_a_zone_moves_times_days_and_windows(shop: Path, tmp_path: Path) -> None:
    made = _in_berlin(shop, tmp_path)
    stream, log = made.project.stream, made.project.log
    assert complaints(made.file) == "" and log is not None
    assert made.why("clocks") == "" and "Mend this first" not in made.text
    assert log.impressions[0].time is not None and log.impressions[0].time.zone == "Europe/Berlin"
    assert all(files.time is not None and files.time.zone == "UTC" for files in log.outcomes)
    assert stream.time_zone == "Europe/Berlin" and stream.first_slice == CHANGED
    assert stream.until == datetime(2026, 4, 3, tzinfo=BERLIN).astimezone(UTC)
    assert len(list(stream.slices(stream.first_slice, stream.until))) == 9
    assert "9 slices" in stream_comment(made)
    assert {task.name: task.window for task in stream.tasks} == {
        "klick": timedelta(minutes=30), "kaeufe": timedelta(days=3)
    }  # fmt: skip
    tables = made.imported(tmp_path / "state").tables
    assert [(table.kept, table.quarantined) for table in tables][0] == (2_000, 0)


def stream_comment(made: Drafted) -> str:
    flat = " ".join(line.strip().lstrip("# ") for line in made.text.splitlines())
    return flat.split("STREAM = ")[1].split("first_slice=")[0]


def test_tasks_far_apart_get_a_teacher_each(shop: Path, tmp_path: Path) -> None:
    made = _in_berlin(shop, tmp_path)
    teachers = {teacher.name: teacher.tasks for teacher in made.project.teachers}
    assert teachers == {"large": ("klick",), "large_kaeufe": ("kaeufe", "klick")}
    taught = {student.name: (student.task, student.teacher) for student in made.project.students}
    assert taught == {
        "start_klick": ("klick", "large"), "search_klick": ("klick", "large"),
        "start_kaeufe": ("kaeufe", "large_kaeufe"),
    }  # fmt: skip
    assert "large_kaeufe: labels of 'kaeufe' are there more than a slice later than those of 'klick'" in made.why(
        "teacher"
    )
    assert made.why("students") == "klick: of 2 tasks they learn it: no other is known sooner"


def test_a_zone_that_is_none(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(shop), "--zone", "Europe/Berlinn"]) == 2
    said = " ".join(capsys.readouterr().out.split())
    assert said == (
        "--zone: 'Europe/Berlinn' is no time zone (did you mean 'Europe/Berlin'?): use a name such as "
        "'Asia/Shanghai', or 'UTC'"
    )


def _told(**minutes: int) -> dict[str, Told]:
    return {name: Told(timedelta(minutes=value), "") for name, value in minutes.items()}


def test_groups_of_tasks_that_one_teacher_is_in_time_for() -> None:
    tasks = _told(buy=4_000, click=30, like=30, visit=1_470, back=1_471)
    assert horizons(tasks, DAY) == [("click", "like", "visit"), ("back",), ("buy",)]
    assert main_of(tasks)[0] == "click" and main_of(_told(buy=90, look=60))[0] == "look"
    assert horizons(_told(a=30, b=30 + 1_440), timedelta(hours=23)) == [("a",), ("b",)]


@pytest.mark.parametrize(("zone", "clock", "first"), [
    ("UTC", "UTC", "2026-03-28 04:00"), ("Europe/Berlin", "UTC", "2026-03-28 04:00"),
    ("Asia/Kolkata", "Asia/Kolkata", "2026-03-28 02:30"),
])  # fmt: skip
def test_slices_of_hours_follow_a_clock_that_is_never_changed(zone: str, clock: str, first: str) -> None:
    begun = datetime(2026, 3, 28, 5, tzinfo=UTC)
    cut = cut_of(begun, begun + timedelta(hours=30), zone)
    assert cut.zone == clock and cut.length == timedelta(hours=4) and f"{cut.first:%Y-%m-%d %H:%M}" == first
    assert ("by UTC, for the clock of Europe/Berlin is changed" in cut.why) == (zone == "Europe/Berlin")


@pytest.mark.parametrize("month", [3, 10])
def test_days_of_23_and_25_hours(month: int) -> None:
    first = datetime(2026, month, 20, tzinfo=BERLIN).astimezone(UTC)
    newest = datetime(2026, month, 31, 23, 59, tzinfo=BERLIN).astimezone(UTC)
    cut = cut_of(first, newest, "Europe/Berlin")
    assert cut.count == 12 and cut.until == newest + timedelta(minutes=1) and cut.first == first
    assert cut.shortest == timedelta(hours=23)
    late = cut_of(datetime(2026, month, 28, 3, tzinfo=BERLIN), newest + timedelta(days=9), "Europe/Berlin")
    earlier = earlier_by(late, first - timedelta(days=3), 7)
    assert earlier.first == datetime(2026, month, 21, tzinfo=BERLIN).astimezone(UTC)
    assert "7 before them" in earlier.why and earlier.impressions_from == late.first
