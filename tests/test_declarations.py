"""Declarations: slices and clocks by hand, and each bad declaration with its one sentence."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from exfm.declaration import digest
from exfm.distillation import AuxiliaryHead, KnowledgeDistillation, LeadAware
from exfm.errors import DeclarationError
from exfm.feature_views import FeatureView
from exfm.freshness import Freshness
from exfm.learning import Student, Training
from exfm.load import load_project, load_state
from exfm.log_columns import Column, Task
from exfm.networks import DCNv2
from exfm.project import Project
from exfm.stream import Stream
from projects.simulated import PROJECT

HOUR = timedelta(hours=1)
FIRST = datetime(2026, 1, 1, tzinfo=UTC)


def stream(**changes: object) -> Stream:
    declared: dict[str, object] = {
        "first_slice": FIRST,
        "slice_length": 4 * HOUR,
        "user": Column(name="user_id", rows=8),
        "item": Column(name="item_id", rows=8),
        "surface": Column(name="surface", rows=8),
        "surfaces": (1, 2),
        "tasks": (Task(name="click", window=2 * HOUR), Task(name="buy", window=24 * HOUR)),
    }
    return Stream(**{**declared, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("length", "cron", "key"),
    [
        (timedelta(days=1), "0 0 * * *", "2026-01-02"),
        (4 * HOUR, "0 */4 * * *", "2026-01-01-04:00"),
        (timedelta(minutes=1), "*/1 * * * *", "2026-01-01-00:01"),
    ],
)
def test_a_slice_is_named_by_its_start(length: timedelta, cron: str, key: str) -> None:
    declared = stream(slice_length=length)
    assert declared.cron == cron
    assert declared.slice_at(1).key == key
    assert declared.slice_of(key) == declared.slice_at(1)
    assert ":" not in declared.slice_at(1).folder


@pytest.mark.parametrize("window_hours", [1, 2, 4, 5, 8, 23, 24])
def test_the_serving_lag_is_the_first_slice_that_starts_when_labels_are_closed(window_hours: int) -> None:
    window = window_hours * HOUR
    declared = stream(tasks=(Task(name="click", window=window),))
    trained = declared.slice_at(10)
    by_hand = next(k for k in range(1, 99) if declared.slice_at(10 + k).start >= trained.end + window)
    assert declared.serving_lag("click") == by_hand


def test_labels_are_as_of_the_end_of_the_longest_window_or_of_the_known_log() -> None:
    slice_, now = stream().slice_at(0), FIRST + timedelta(days=400)
    assert stream().closes(slice_, now) == FIRST + 28 * HOUR
    assert stream().closes(slice_, FIRST + 5 * HOUR) == FIRST + 5 * HOUR
    assert stream(known_until=FIRST + 6 * HOUR).closes(slice_, now) == FIRST + 6 * HOUR


def test_slices_stop_at_the_end_of_a_closed_log() -> None:
    closed = stream(until=FIRST + 8 * HOUR)
    assert [slice_.key for slice_ in closed.slices(FIRST - HOUR, FIRST + 99 * HOUR)] == [
        "2026-01-01-00:00",
        "2026-01-01-04:00",
    ]
    with pytest.raises(DeclarationError, match="2026-01-01-08:00"):
        closed.slice_of("2026-01-01-08:00")


def test_a_teacher_publishes_every_so_many_slices() -> None:
    teacher = replace(PROJECT.teachers[0], lag=1, publish_every=3)
    assert [teacher.scorer_of(index) for index in range(8)] == [-1, -1, -1, 2, 2, 2, 5, 5]
    assert all(teacher.scorer_of(index) < index for index in range(50))


def test_a_digest_changes_with_every_field_and_with_nothing_else() -> None:
    student = PROJECT.students[0]
    assert digest(student) == digest(replace(student))
    assert digest(student) != digest(replace(student, network=DCNv2(hidden=(33,))))
    assert digest(AuxiliaryHead(weight=1.0)) != digest(KnowledgeDistillation(weight=1.0))


STUDENT, TEACHER, VIEW = PROJECT.students[0], PROJECT.teachers[0], PROJECT.feature_views[0]


def with_student(**changes: object) -> Project:
    return replace(PROJECT, students=(replace(STUDENT, **changes),))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("declare", "sentence"),
    [
        (lambda: Training(cuda_graphs=True), "Training.cuda_graphs: True replays what was compiled: set compile=True"),
        (
            lambda: with_student(task="clik"),
            "Student(feed_click).task: 'clik' is not a declared task (did you mean 'click'?): use one of",
        ),
        (lambda: with_student(surface="fed"), "Student(feed_click).surface: 'fed' is not a declared surface"),
        (lambda: with_student(teacher="huge"), "Student(feed_click).teacher: 'huge' is not a declared teacher"),
        (lambda: with_student(inputs=("user_id", "clicks")), "Student(feed_click).inputs: 'clicks' is not a column or"),
        (
            lambda: with_student(inputs=("item_activity:click_9d",)),
            "has no feature 'click_9d' (did you mean 'click_7d'",
        ),
        (lambda: with_student(inputs=("user_activity",)), "'user_activity' has online=False, so it can't be served"),
        (lambda: with_student(inputs=("teacher_large",)), "'teacher_large' is not a column or a feature"),
        (lambda: with_student(teacher=None), "None can't supervise AuxiliaryHead: name a teacher"),
        (lambda: with_student(network=DCNv2(experts=2)), "experts=2 is for teachers"),
        (
            lambda: replace(
                PROJECT,
                teachers=(replace(TEACHER, tasks=("click",)),),
                prediction_views=(),
                students=(PROJECT.student("feed_convert"),),
            ),
            "does not predict 'convert'",
        ),
        (lambda: replace(PROJECT, teachers=(TEACHER, TEACHER)), "Project.teachers: 'large' is declared twice"),
        (lambda: replace(TEACHER, lag=0), "Teacher(large).lag: 0 is too small: use 1 or more"),
        (lambda: replace(PROJECT, feature_views=(replace(VIEW, rates=("clik",)),)), "'clik' is not a declared task"),
        (lambda: replace(PROJECT, feature_views=(replace(VIEW, entities=("usr",)),)), "'usr' is not a declared column"),
        (lambda: replace(VIEW, every=5 * HOUR), "is not a multiple of every"),
        (
            lambda: Student(name="Big Model", surface=None, task="click", inputs=("user_id",), network=DCNv2()),
            "'Big M",
        ),
        (lambda: stream(slice_length=5 * HOUR), "5:00:00 does not divide a day evenly"),
        (lambda: stream(slice_length=timedelta(0)), "0:00:00 is not a duration: use one longer than zero"),
        (lambda: stream(first_slice=FIRST + HOUR), "is not on a multiple of 4:00:00 since midnight"),
        (lambda: stream(first_slice=datetime(2026, 1, 1)), "is not in UTC"),
        (lambda: stream(until=FIRST + HOUR), "is not the end of a slice"),
        (lambda: stream(surfaces=("feed",)), "'feed' is not of the surface column's type int"),
        (lambda: stream(tasks=()), "declares no task"),
        (lambda: Task(name="click", window=-HOUR), "is not a duration"),
        (lambda: Freshness(warn=2 * HOUR, fail=HOUR), "is not before fail"),
        (lambda: AuxiliaryHead(label_scale=0.0), "AuxiliaryHead.label_scale: 0.0 is not positive"),
        (lambda: LeadAware(none_at=0.02), "LeadAware.full_at: 0.018 is not above none_at 0.02"),
        (lambda: LeadAware(none_at=-0.01), "use 0 <= none_at < full_at"),
        (lambda: LeadAware(slices=0), "LeadAware.slices"),
        (lambda: LeadAware(proof=-1), "LeadAware.proof"),
        (
            lambda: FeatureView(name="v", entities=("user_id",), windows=(HOUR,), every=HOUR),
            "declares no count or rate",
        ),
    ],
)
def test_a_bad_declaration_is_refused_in_one_sentence(declare: object, sentence: str) -> None:
    with pytest.raises(DeclarationError) as refused:
        declare()  # type: ignore[operator]
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_project_is_chosen_by_name_and_its_log_by_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXFM_PROJECT", "nws")
    with pytest.raises(DeclarationError, match="'nws' is not a project: use one of"):
        load_project()
    monkeypatch.delenv("EXFM_DATA", raising=False)
    with pytest.raises(DeclarationError, match="EXFM_DATA: not set"):
        load_state(load_project("news"))
    monkeypatch.setenv("EXFM_DATA", "no/such/folder")
    with pytest.raises(DeclarationError, match="'no/such/folder' is not a folder"):
        load_state(load_project("news"))


@pytest.mark.parametrize(
    ("lead", "leads", "share"),
    [
        (LeadAware(none_at=0.0, full_at=0.01), [], 0.0),  # nothing measured, nothing distilled
        (LeadAware(none_at=0.0, full_at=0.01), [0.005], 0.5),
        (LeadAware(none_at=0.0, full_at=0.01), [-0.02, 0.01], 0.0),
        (LeadAware(none_at=0.0, full_at=0.01), [0.5, 0.3], 1.0),
        (LeadAware(none_at=0.0, full_at=0.01, slices=2), [0.9, 0.001, 0.003], 0.2),  # the oldest no longer counts
        (LeadAware(none_at=0.004, full_at=0.012), [0.004], 0.0),
        (LeadAware(none_at=0.004, full_at=0.012), [0.006], 0.25),
    ],
)
def test_a_lead_deserves_its_share(lead: LeadAware, leads: list[float], share: float) -> None:
    assert lead.share(leads) == pytest.approx(share)


@pytest.mark.parametrize(
    ("leads", "gains", "share"),
    [
        ([0.006], [0.002] * 5, 1.0),  # a small lead that has helped every time
        ([0.006], [-0.002] * 5, 0.0),
        ([0.006], [0.002] * 3, 0.0),  # too few to say
        ([0.006], [0.001, 0.002, 0.003, 0.002, 0.002], 1.0),  # a mean of more than six standard errors
        ([0.006], [0.004, -0.003, 0.003, -0.002], 0.0),  # less than one: chance
        ([0.006], [0.003, 0.0, 0.003, 0.0], 3**0.5 - 1),  # 1.73 standard errors
        ([0.001], [0.002] * 5, 0.25),  # less and less as the lead goes
        ([-0.001], [0.002] * 5, 0.0),
        ([0.013], [-0.002] * 5, 0.5),  # a large one is trusted
        ([0.013], [0.002] * 5, 1.0),
        ([0.006], [0.002] * 5 + [-0.009] * 24, 0.0),  # old gains no longer count
    ],
)
def test_a_small_lead_must_have_helped(leads: list[float], gains: list[float], share: float) -> None:
    assert LeadAware().share(leads, gains) == pytest.approx(share)
    assert LeadAware(proof=0).share(leads, gains) == LeadAware().share(leads)


def test_a_range_is_its_slices_or_a_sentence() -> None:
    declared = stream(until=FIRST + 24 * HOUR)
    keys = [slice_.key for slice_ in declared.slices_between("2026-01-01-04:00", "2026-01-01-12:00")]
    assert keys == ["2026-01-01-04:00", "2026-01-01-08:00", "2026-01-01-12:00"]
    assert len(declared.slices_between("2026-01-01-20:00", "2026-01-01-20:00")) == 1
    backwards = r"range: 2026-01-01-12:00\.\.\.2026-01-01-04:00 ends before it begins.*: write 2026-01-01-04:00\.\.\."
    with pytest.raises(DeclarationError, match=backwards):
        declared.slices_between("2026-01-01-12:00", "2026-01-01-04:00")
    with pytest.raises(DeclarationError, match="is not a slice of this stream"):
        declared.slices_between("2026-01-01-04:00", "2026-01-02-04:00")
