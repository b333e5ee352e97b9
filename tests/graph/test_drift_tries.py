"""A drift that what serves has not learnt from yet: trained once, then the gate has the word, and said once."""

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from rich.console import Console

from exfm.project import Drift
from exfm_assets.live_words import Narrator
from pipeline.drift.findings import of_judged
from pipeline.drift.report import FILE, SCHEMA, asks, news
from pipeline.drift.tries import DRIFTED, LEARNT, LEFT, TRAINED, Tries
from pipeline.releases.release import CURRENT
from pipeline.releases.verdict import (
    GATE,
    PASSED,
    REFUSED,
    TOO_LITTLE,
    Verdict,
    read_verdict,
    refused_with,
    stored_version,
    write_verdict,
)
from pipeline.sidecar import write_stored
from pipeline.workspace import Workspace
from tests.conftest import Ran
from tests.graph.test_drift import LIMITS, judged
from tests.tiny import tiny_workspace

MODEL = "student/feed_click"


@pytest.fixture
def work(ran: Ran, tmp_path: Path) -> Workspace:
    shutil.copytree(ran.work.state.folder, tmp_path / "tiny")
    made = tiny_workspace(tmp_path)
    serve(made, slice=made.project.stream.slice_at(0).key)
    return replace(made, project=replace(made.project, drift=Drift(tries=2)))


def serve(work: Workspace, **changes: object) -> None:
    """Change what is written of what serves."""
    path = work.state.release(work.project.students[0].name) / CURRENT
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def judge(work: Workspace, outcome: str, *indices: int) -> None:
    """Plant what the gate said of candidates, one after the other."""
    verdict, student = None, work.project.students[0]
    for index in indices:
        key = work.project.stream.slice_at(index).key
        new = Verdict(outcome, "planted", stored_version(work, student, key), key, ne={"student": 1.0}, gate="g")
        verdict = replace(new, refused=refused_with(new, verdict))
    assert verdict is not None
    write_verdict(work, student, verdict)


def states(work: Workspace) -> list[str]:
    """What a change in each of the slices 1 to 4 asks for: they were learnt, and what serves was only from slice 0."""
    return [Tries(work, work.project.students[0]).of(index)[0] for index in range(1, 5)]


def test_what_was_trained_waits_for_its_gate(work: Workspace) -> None:
    judge(work, REFUSED, 1)
    assert states(work) == [TRAINED] * 4
    assert Tries(work, work.project.students[0]).of(0) == (LEARNT, "")
    assert Tries(work, work.project.students[0]).of(5)[0] == DRIFTED  # not learnt yet
    shutil.rmtree(work.state.checkpoints(MODEL) / work.project.stream.slice_at(4).folder)
    assert states(work) == [*[TRAINED] * 3, DRIFTED]


def test_each_refused_candidate_is_a_try_until_there_were_enough(work: Workspace) -> None:
    judge(work, REFUSED, 3, 4)
    assert states(work) == [*[LEFT] * 3, DRIFTED]
    judge(work, REFUSED, 4)
    assert states(work) == [DRIFTED] * 4
    judge(work, REFUSED, 4, 4)  # judged again on another slice
    assert states(work) == [DRIFTED] * 4
    assert Tries(work, work.project.students[0]).of(4) == (DRIFTED, "")
    words = Tries(replace(work, project=replace(work.project, drift=Drift(tries=1))), work.project.students[0]).of(4)
    assert words == (LEFT, "a candidate has learnt from it and did not come to serve: left alone until it grows stale")


def test_a_candidate_that_was_trained_again_since_counts_for_nothing(work: Workspace) -> None:
    student, key = work.project.students[0], work.project.stream.slice_at(4).key
    write_verdict(work, student, Verdict(REFUSED, "planted", "another", key, refused=((key, "another"),) * 2))
    assert states(work) == [TRAINED] * 4
    write_verdict(work, student, Verdict(PASSED, "planted", "another", key))
    assert Tries(work, student).of(4) == (TRAINED, f"learnt until slice {key}, its gate has the word")


def test_a_candidate_that_passed_is_waited_for_until_it_is_taken_back(work: Workspace) -> None:
    student, key = work.project.students[0], work.project.stream.slice_at(4).key
    judge(work, PASSED, 4)
    assert Tries(work, student).of(4) == (TRAINED, "a candidate that has learnt from it passed its gate")
    serve(work, pinned=True)
    assert Tries(work, student).of(4)[1].endswith("passed its gate, and what serves is pinned")
    version = stored_version(work, student, key)
    folder = work.state.release(student.name) / str(version)
    folder.mkdir(exist_ok=True)
    (folder / "manifest.json").write_text(json.dumps({"slice": key}))
    serve(work, pinned=False, dropped=version)
    assert states(work) == [DRIFTED] * 4  # one try
    judge(work, REFUSED, 3)
    assert states(work) == [*[LEFT] * 3, DRIFTED]


def test_a_canary_is_waited_for_whatever_was_refused(work: Workspace) -> None:
    judge(work, REFUSED, 2, 3)
    canary = {"version": "v", "slice": work.project.stream.slice_at(4).key, "trained_until": None, "since": ""}
    serve(work, canary={**canary, "number": 2})
    assert states(work) == [TRAINED] * 4
    assert Tries(work, work.project.students[0]).of(4) == (TRAINED, "canary v has learnt from it")


def test_where_nothing_serves_it_is_trained_until_something_does(work: Workspace) -> None:
    judge(work, REFUSED, 3, 4)
    (work.state.release(work.project.students[0].name) / CURRENT).unlink()
    assert states(work) == [DRIFTED] * 4


def test_a_checkpoint_that_its_gate_will_not_judge_is_not_waited_for(work: Workspace) -> None:
    student = work.project.students[0]
    write_verdict(work, student, Verdict(TOO_LITTLE, "12 labelled rows"))
    assert Tries(work, student).of(4)[1].endswith("its gate has the word: 12 labelled rows")
    asks_more = replace(student, gate=replace(student.gate, rows=10**6))
    assert Tries(work, asks_more).of(4) == (DRIFTED, "")


def test_the_gate_remembers_whom_it_refused() -> None:
    ne = {"student": 1.0}
    first = Verdict(REFUSED, "", "a", "2026-01-01", ne=ne, gate="g")
    first = replace(first, refused=refused_with(first, None))
    none = Verdict(TOO_LITTLE, "", gate="g")
    none = replace(none, refused=refused_with(none, first))
    faulty = Verdict(REFUSED, "a check of the data failed", "b", "2026-01-02", gate="g")
    passed, second = replace(faulty, outcome=PASSED, ne=ne), replace(faulty, ne=ne)
    for verdict in (none, faulty, passed):  # of those only the first was compared, and refused
        assert refused_with(verdict, none) == (("2026-01-01", "a"),)
    assert refused_with(second, none) == (("2026-01-01", "a"), ("2026-01-02", "b"))
    assert refused_with(replace(second, gate="declared otherwise"), none) == (("2026-01-02", "b"),)


def test_a_verdict_of_an_earlier_exfm_is_a_try_itself(work: Workspace) -> None:
    student = work.project.students[0]
    judge(work, REFUSED, 4)
    path = work.state.release(student.name) / GATE
    plain = json.loads(path.read_text(encoding="utf-8"))
    del plain["refused"]
    path.write_text(json.dumps(plain), encoding="utf-8")
    verdict = read_verdict(work, student)
    assert verdict is not None and verdict.refused == ((verdict.slice, verdict.candidate),)
    assert states(work) == [DRIFTED] * 4


# The report.


def report(work: Workspace, *rows: tuple[str, int, str, str]) -> pl.DataFrame:
    """A stored report of one student: measure, slice, state, reason."""
    stream = work.project.stream
    made = pl.DataFrame(
        [
            (MODEL, measure, stream.slice_at(index).key, state in (DRIFTED, TRAINED, LEFT), state, reason)
            for measure, index, state, reason in rows
        ],
        schema=SCHEMA,
        orient="row",
    )
    write_stored(made, work.state.reports / FILE)
    return made


def test_a_report_of_before_the_verdict_asks_by_the_verdict(work: Workspace) -> None:
    """The report may be older than what the gate said of the candidate."""
    student = work.project.students[0]
    rows = report(work, ("inputs", 4, TRAINED, "PSI"), ("ne", 2, "learnt", "NE rose"))
    assert asks(work, student, rows) is None
    judge(work, REFUSED, 4)
    assert asks(work, student, rows) == f"{work.project.stream.slice_at(4).key}: PSI"
    judge(work, REFUSED, 3, 4)
    assert asks(work, student, report(work, ("ne", 3, DRIFTED, "NE rose"))) is None


def test_a_drift_is_said_once_whatever_its_figures_are_by_then(work: Workspace) -> None:
    """A release between two reports moves what is compared with: the same change, with other figures."""
    console = Console(file=io.StringIO(), width=200)
    narrator = Narrator(work, console)

    def said() -> list[str]:
        console.file = io.StringIO()
        narrator.look()
        return [line[10:] for line in console.file.getvalue().splitlines()]

    key = work.project.stream.slice_at(3).key
    first = report(work, ("inputs", 3, DRIFTED, "PSI 6.20"))
    assert said() == [f"feed_click drifted: {key}: PSI 6.20; it is trained again"] and said() == []
    second = report(work, ("inputs", 3, DRIFTED, "PSI 5.54"), ("ne", 3, "learnt", "NE rose"))
    assert said() == [] and news(second, first).is_empty()
    report(work, ("inputs", 3, TRAINED, "PSI 5.54; its gate has the word"))
    assert said() == []
    third = report(work, ("inputs", 3, LEFT, "PSI 5.54; left alone"))
    assert said() == [f"feed_click drifted: {key}: PSI 5.54; left alone"] and said() == []
    assert news(third, second).height == 1 and news(third, third).is_empty() and news(third, None).height == 1
    report(work, ("inputs", 4, DRIFTED, "PSI 3.00"))
    assert said() == [f"feed_click drifted: {work.project.stream.slice_at(4).key}: PSI 3.00; it is trained again"]


@pytest.mark.parametrize("lag", [2, 3, 6])
def test_what_stays_beyond_a_limit_is_one_finding_however_long_it_lasts(lag: int) -> None:
    """It acts until what serves has learnt from the slice at which it began, however far behind releases are."""
    values = [replace(each, calibration=1.0 if each.index < 10 else 1.6) for each in judged([0.9] * 40)]
    by_limits = [
        [
            (finding.index, finding.reason, finding.acts)
            for finding in of_judged(values[:until], LIMITS, released=until - lag)
            if finding.measure == "calibration" and "Page-Hinkley" not in finding.reason
        ]
        for until in range(12, 40)
    ]
    first = next(found for found in by_limits if found)[0]
    assert {found[0][:2] for found in by_limits if found} == {first[:2]} and len(by_limits[-1]) == 1
    acting = [found[0][2] for found in by_limits if found]
    assert acting == [True] * (lag - 1) + [False] * (len(acting) - lag + 1)
