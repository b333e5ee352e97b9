"""Clocks of two zones are told by outcomes that come before their impressions; rare surfaces get no student."""

from datetime import timedelta
from pathlib import Path

import pytest

from pipeline.drafting.assembling import draft_of
from tests.drafting.drafts import complaints, drafted
from tests.drafting.logs import events, write_csv


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
    assert "outcomes come before their own impressions, by up to 1 hour: one of the two clocks" in made.why("clocks")
    assert "EventTime(zone='Europe/Berlin') for the impressions" in made.why("clocks")
    _write(tmp_path / "east", 8, 0)
    assert "by up to 8 hours" in drafted(tmp_path / "east", tmp_path / "draft").why("clocks")
    assert "EventTime(zone='Asia/Shanghai')" in drafted(tmp_path / "east", tmp_path / "draft").why("clocks")


@pytest.mark.parametrize("ahead", [(0, 0), (0, 2)])
def test_clocks_that_may_agree(ahead: tuple[int, int], tmp_path: Path) -> None:
    _write(tmp_path / "log", *ahead)
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
