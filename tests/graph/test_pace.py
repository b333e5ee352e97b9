"""How far a run is, in words: slices counted by what steps say, rates and what is left by hand."""

import pytest

from exfm_assets.pace import Pace
from pipeline.parts import with_progress

KEYS = [f"2026-01-{day:02}" for day in range(1, 11)]


def test_slices_are_counted_once_and_time_left_is_by_their_rate() -> None:
    pace = Pace(KEYS, expected=None, began=100.0)
    assert pace.words(100.0) == "starting"
    pace.begin("teacher_large", 200.0)
    assert pace.words(201.0) == "teacher_large"
    pace.line("teacher/large 2026-01-01: 900 scored in 3.0 s")
    pace.line("teacher/large 2026-01-01: said again")
    pace.line("another 2025-12-31: of no slice of the run")
    pace.line("teacher/large 2026-01-02: 900 scored in 3.0 s")
    said = pace.words(206.0)
    assert said == "teacher_large ████░░░░░░░░░░░░░░░░ slice 2 of 10, 3.0 s a slice, 24 s left in this step"
    for key in KEYS:
        pace.line(f"teacher/large {key}: done")
    assert pace.words(230.0) == "teacher_large ████████████████████ slice 10 of 10, 3.0 s a slice"
    pace.begin("labels", 230.0)
    assert pace.words(231.0) == "labels"


def test_what_is_left_of_all_is_said_while_it_is_long() -> None:
    pace = Pace(KEYS[:1], expected=60.0, began=0.0)
    pace.begin("labels", 1.0)
    assert pace.words(20.0) == "labels, for 19 s; about 40 s left"
    assert pace.words(56.0) == "labels, for 55 s"  # a guess of a few seconds is no help
    assert pace.words(500.0) == "labels, for 0:08:19"  # nor one that was wrong
    assert Pace(KEYS, expected=4000.0, began=0.0).words(0.0) == "starting; about 1:06:40 left"


def test_few_slices_have_no_bar() -> None:
    pace = Pace(KEYS[:2], began=0.0)
    pace.begin("labels", 0.0)
    pace.line("labels 2026-01-01: 900 rows")
    assert pace.words(1.0) == "labels 2026-01-01: 900 rows"


def test_a_slice_that_is_under_way_is_not_done() -> None:
    said: list[str] = []
    parts_of = iter([0.0, 6.0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.parts.time.perf_counter", lambda: next(parts_of))
        list(with_progress(["abc"], "labels 2026-01-02", 9, said.append))
    pace = Pace(KEYS, began=0.0)
    pace.begin("labels", 0.0)
    pace.line(said[0])
    assert pace.words(1.0) == "labels 2026-01-02: 3 of 9 rows, 0 rows/s, 0:00:12 left"
    pace.line("labels 2026-01-01: 900 rows")
    pace.line(said[0])
    bar = "labels ██░░░░░░░░░░░░░░░░░░ slice 1 of 10, 4.0 s a slice, 36 s left in this step"
    assert pace.words(4.0) == f"{bar}; {said[0]}"
    pace.line("labels 2026-01-02: 900 rows")
    assert "rows/s" not in pace.words(8.0)


def test_a_step_without_slices_says_for_how_long_it_has_been_at_work() -> None:
    pace = Pace(began=0.0)
    pace.begin("online_store", 100.0)
    assert pace.words(102.0) == "online_store"
    assert pace.words(131.0) == "online_store, for 31 s"
    pace.begin("students", 131.0)
    assert pace.words(132.0) == "students"
