"""Clocks of two zones are told by outcomes that come before their impressions; rare surfaces get no student."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from pipeline.drafting.assembling import draft_of
from pipeline.drafting.given import Given
from tests.drafting.drafts import complaints, drafted
from tests.drafting.logs import START, events, write_csv


def _write(folder: Path, shown_ahead: int, clicked_ahead: int) -> None:
    rows = events(2_000)
    shown, clicked = timedelta(hours=shown_ahead), timedelta(hours=clicked_ahead)
    write_csv(folder / "impressions" / "a.csv", [
        {"impression_id": f"i{number}", "time": f"{each['moment'] + shown:%Y-%m-%d %H:%M:%S}", "user_id": each["user"],
         "item_id": each["item"]} for number, each in enumerate(rows)
    ])  # fmt: skip
    write_csv(folder / "clicks" / "a.csv", [
        {"impression_id": f"i{number}",
         "click_time": int((each["moment"] + clicked + timedelta(seconds=5 + number % 400)).timestamp())}
        for number, each in enumerate(rows) if each["click"]
    ])  # fmt: skip


def test_impressions_by_another_clock(tmp_path: Path) -> None:
    _write(tmp_path / "log", 1, 0)
    made = drafted(tmp_path / "log", tmp_path / "draft")
    assert "outcomes come before their own impressions, by up to an hour: one of the two clocks" in made.why("clocks")
    assert "EventTime(zone='Europe/Berlin') for the impressions" in made.why("clocks")
    _write(tmp_path / "east", 8, 0)
    assert "by up to 8 hours" in drafted(tmp_path / "east", tmp_path / "draft").why("clocks")
    assert "EventTime(zone='Asia/Shanghai')" in drafted(tmp_path / "east", tmp_path / "draft").why("clocks")


def test_clocks_that_agree(tmp_path: Path) -> None:
    _write(tmp_path / "log", 0, 0)
    assert drafted(tmp_path / "log", tmp_path / "draft").why("clocks") == ""


def test_late_outcomes_tell_it_by_the_first_of_them(tmp_path: Path) -> None:
    rows = events(4_000)
    write_csv(tmp_path / "log" / "impressions" / "a.csv", [
        {"impression_id": f"i{number}", "time": f"{each['moment'] + timedelta(hours=2):%Y-%m-%d %H:%M:%S}",
         "user_id": each["user"], "item_id": each["item"]} for number, each in enumerate(rows)
    ])  # fmt: skip
    write_csv(tmp_path / "log" / "clicks" / "a.csv", [
        {"impression_id": f"i{number}", "click_time": int(each["moment"].timestamp()) + number * 37 % 36_000}
        for number, each in enumerate(rows) if each["click"]
    ])  # fmt: skip
    why = drafted(tmp_path / "log", tmp_path / "draft").why("clocks")
    assert "by up to 2 hours" in why and "zone='Europe/Helsinki'" in why


def _across_a_change(folder: Path, zone: str, day: str, local: str, soonest: int = 4, orders: bool = True) -> None:
    """Ten days in which a zone changes its clock: one table by its clock, the other by UTC."""
    rows, begin = events(2_000, days=10), datetime.fromisoformat(day).replace(tzinfo=UTC)

    def told(moment: datetime, table: str) -> str | int:
        if table != local:
            return int(moment.timestamp())
        return f"{moment.astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M:%S}"

    moments = [begin + (each["moment"] - START) for each in rows]
    write_csv(folder / "impressions" / "a.csv", [
        {"impression_id": f"i{number}", "time": told(moment, "impressions"), "user_id": each["user"],
         "item_id": each["item"]} for number, (moment, each) in enumerate(zip(moments, rows, strict=True))
    ])  # fmt: skip
    after = {"clicks": (soonest, 400), **({"orders": (9_000, 90_000)} if orders else {})}
    for name, (first, range_) in after.items():
        write_csv(folder / name / "a.csv", [
            {"impression_id": f"i{number}",
             f"{name}_time": told(moments[number] + timedelta(seconds=first + number * 7919 % range_), "outcomes")}
            for number, each in enumerate(rows) if each["click"]
        ])  # fmt: skip


@pytest.mark.parametrize(("zone", "day", "local", "said"), [
    ("America/New_York", "2026-10-27", "impressions", "comes within 4 hours of its impression"),
    ("America/New_York", "2026-03-03", "impressions", "comes within 4 hours of its impression"),
    ("America/New_York", "2026-10-27", "outcomes", "before their own impressions, by up to 5 hours"),
    ("Europe/Berlin", "2026-10-20", "impressions", "before their own impressions, by up to 2 hours"),
    ("Europe/Berlin", "2026-10-20", "outcomes", "comes within an hour of its impression"),
])  # fmt: skip
def test_a_zone_that_changes_its_clock_meanwhile(zone: str, day: str, local: str, said: str, tmp_path: Path) -> None:
    _across_a_change(tmp_path / "log", zone, day, local)
    made = drafted(tmp_path / "log", tmp_path / "draft")
    assert said in made.why("clocks") and f"draft it anew with --zone {zone}" in made.why("clocks")
    assert complaints(made.file) == "" and "Mend this first" in made.text
    anew = draft_of([tmp_path / "log"], roles=Given(zone=zone))
    assert not [each for each in anew.guesses if each.what == "clocks"]


def test_outcomes_of_an_honest_clock_may_be_late(tmp_path: Path) -> None:
    """Not told where another task's come soon, or no whole hours after, or both times name their zone."""
    _across_a_change(tmp_path / "soon", "UTC", "2026-05-01", "impressions")
    _across_a_change(tmp_path / "odd", "UTC", "2026-05-01", "impressions", soonest=5_400, orders=False)
    _across_a_change(tmp_path / "known", "UTC", "2026-05-01", "neither", soonest=3_605, orders=False)
    for name in ("soon", "odd", "known"):
        assert drafted(tmp_path / name, tmp_path / "draft").why("clocks") == "", name
    _across_a_change(tmp_path / "late", "UTC", "2026-05-01", "impressions", soonest=3_605, orders=False)
    assert "if that is not so in truth" in drafted(tmp_path / "late", tmp_path / "draft").why("clocks")


def test_a_rare_surface_gets_no_student(tmp_path: Path) -> None:
    listed = [
        {"time": each["moment"].isoformat(), "user_id": each["user"], "item_id": each["item"], "click": each["click"],
         "placement": "Newsletter" if number == 9 else ("start", "search")[number % 2]}
        for number, each in enumerate(events(3_000))
    ]  # fmt: skip
    write_csv(tmp_path / "log" / "log.csv", listed)
    made = drafted(tmp_path / "log", tmp_path / "draft")
    assert "Newsletter: 1 row of 3,000: if it is a mistake, take it out of surfaces" in made.why("no student")
    assert sorted(str(student.surface) for student in made.project.students) == ["search", "start"]
    assert set(made.project.stream.surfaces) == {"start", "search", "Newsletter"} and complaints(made.file) == ""


def test_an_id_that_repeats_once_is_one(tmp_path: Path) -> None:
    _write(tmp_path / "log", 0, 0)
    path = tmp_path / "log" / "impressions" / "a.csv"
    path.write_text(path.read_text() + path.read_text().splitlines()[-1] + "\n")
    draft = draft_of([tmp_path / "log"])
    said = {each.what: f"{each.guess}: {each.why}" for each in draft.guesses}
    assert said["impression id"].startswith("impression_id: another value in nearly each row looked at: 1 of 2,001")
