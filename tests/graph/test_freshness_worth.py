"""What age costs, beside what is declared: weighed by hand, and planted differences found."""

from math import inf

import numpy as np
import polars as pl
import pytest

from exfm.project import Upkeep
from pipeline.studies.freshness_worth import advice, at_age, slices_behind, weighed
from pipeline.studies.losses import Loss, losses
from pipeline.studies.student_refresh_study import SCHEMA as BY_REFRESH
from pipeline.studies.teacher_lag_study import SCHEMA as BY_LAG
from tests.tiny import tiny_project, tiny_workspace

FLAT = [Loss(1, 0.0, 0.0), Loss(2, 0.0001, 0.0002), Loss(4, 0.0002, 0.0002), Loss(8, 0.004, 0.001)]
NOISY = [Loss(1, 0.0, 0.0), Loss(2, 0.001, 0.01), Loss(4, 0.02, 0.005)]


@pytest.mark.parametrize(
    ("measured", "declared", "expected"),
    [
        (FLAT, 1, ("fresher than needed", 4)),
        (FLAT, 4, ("agrees", 4)),
        (FLAT, 6, ("too noisy to tell", None)),  # between the last that is sound and the first that costs
        (FLAT, 8, ("too old", 4)),
        (FLAT, 20, ("too old", 4)),
        (NOISY, 1, ("agrees", 1)),  # nothing staler is shown to be as good
        (NOISY, 2, ("too noisy to tell", None)),
        (NOISY, 4, ("too old", 2)),
        ([Loss(1, 0.0, 0.0), Loss(2, 0.5, inf)], 2, ("too noisy to tell", None)),  # one slice shows nothing
    ],
)
def test_weighed(measured: list[Loss], declared: int, expected: tuple[str, int | None]) -> None:
    assert weighed(measured, declared, 0.0005) == expected


def test_between_measured_ages() -> None:
    assert at_age(FLAT, 3).loss == pytest.approx(0.00015) and at_age(FLAT, 3).error == pytest.approx(0.0002)
    assert at_age(FLAT, 8).loss == 0.004 and at_age(FLAT, 99).loss == 0.004


def test_losses_are_paired_by_slice() -> None:
    """Slices differ far more than ages do: unpaired, nothing would show."""
    rng = np.random.default_rng(0)
    level = rng.uniform(0.5, 1.0, 40)
    rows = [
        {"slice": str(at), "model": name, "ne": level[at] * (1 + lost + rng.normal(0, 0.0005))}
        for at in range(40)
        for name, lost in (("fresh", 0.0), ("old", 0.002))
    ]
    fresh, old = losses(pl.DataFrame(rows), [(1, "fresh"), (4, "old")])
    assert fresh == Loss(1, 0.0, 0.0) and old.age == 4
    assert abs(old.loss - 0.002) < old.error < 0.0005
    one = losses(pl.DataFrame(rows).filter(pl.col("slice") == "0"), [(1, "fresh"), (4, "old")])[1]
    assert one.error == inf


def test_what_disagrees_is_said_first_with_the_field_to_change(tmp_path) -> None:  # type: ignore[no-untyped-def]
    work = tiny_workspace(tmp_path, tiny_project(upkeep=Upkeep(bearable_loss=0.001)))
    first, second = [student.name for student in work.project.students]
    assert slices_behind(work.project, work.project.students[0]) == 0

    def lag_rows(student: str, *found: tuple[int, float, float]) -> list[dict[str, object]]:
        about = {"teacher": "large", "student": student, "surface": "1", "task": "click", "slices": 9, "rows": 900}
        ne = {"ne_teacher": 0.9, "ne_student": 0.9, "ne_control": 0.9, "loss_teacher": 0.0, "error_teacher": 0.0}
        return [{**about, **ne, "lag": lag, "loss_student": lost, "error_student": error} for lag, lost, error in found]

    flat, steep = ((1, 0.0, 0.0), (2, 0.0002, 0.0003), (4, 0.0, 0.0005)), ((1, 0.0, 0.0), (2, 0.01, 0.001))
    late = [
        {"student": first, "surface": "1", "task": "click", "behind": behind, "slices": 9, "rows": 900, "ne": 0.9,
         "loss": 0.0001 * behind, "error": 0.0002}
        for behind in (0, 1, 2)
    ]  # fmt: skip
    by_refresh = pl.DataFrame(late, schema=BY_REFRESH)
    both = pl.DataFrame([*lag_rows(first, *flat), *lag_rows(second, *steep)], schema=BY_LAG)
    of_student, of_teacher = advice(work, both, by_refresh)
    assert of_student.verdict == "fresher than needed" and of_student.advised == 2
    assert "warn=" in of_student.says and f"student/{first}: refreshed up to 0 slices late" in of_student.says
    assert of_teacher.verdict == "agrees"  # one of its students needs it fresh
    easy = pl.DataFrame([*lag_rows(first, *flat), *lag_rows(second, *flat)], schema=BY_LAG)
    of_teacher = advice(work, easy, by_refresh.clear())[0]
    assert (of_teacher.verdict, of_teacher.advised) == ("fresher than needed", 4)
    assert "publish more rarely" in of_teacher.says
