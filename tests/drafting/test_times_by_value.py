"""Times are known by their values where no name tells; one bad value hides none."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from pipeline.drafting.assembling import draft_of
from pipeline.drafting.given import Given
from pipeline.tables import DataError
from tests.drafting.drafts import drafted
from tests.drafting.logs import events, write_csv

FORMS: dict[str, Callable[[datetime], object]] = {
    "iso": lambda at: at.isoformat(),
    "days first": lambda at: f"{at:%d.%m.%Y %H:%M:%S}",
    "ms": lambda at: int(at.timestamp() * 1000),
    "s": lambda at: int(at.timestamp()),
    "days": lambda at: f"{at:%d.%m.%Y}",
}


def _write(folder: Path, form: Callable[[datetime], object], rows: int = 600, bad: int = 0) -> None:
    listed = [
        {"Wann": form(each["moment"]), "user_id": each["user"], "item_id": each["item"], "click": each["click"],
         "published_at": "2019-01-01 10:00:00"} for each in events(rows)
    ]  # fmt: skip
    for number in range(bad):
        listed[50 + number]["Wann"] = "gestern"
    write_csv(folder / "log.csv", listed)


@pytest.mark.parametrize("form", FORMS)
def test_a_name_that_says_nothing(form: str, tmp_path: Path) -> None:
    _write(tmp_path / "log", FORMS[form])
    made = drafted(tmp_path / "log", tmp_path / "draft")
    assert "'Wann' is" in made.why("time") and "a guess by its values" in made.why("time")
    assert made.imported(tmp_path / "state").tables[0].kept == 600


@pytest.mark.parametrize("form", ["iso", "days first", "ms"])
def test_one_bad_value_hides_no_time(form: str, tmp_path: Path) -> None:
    _write(tmp_path / "log", FORMS[form], 7_000, 1)
    made = drafted(tmp_path / "log", tmp_path / "draft")
    assert "99.99 % are times, 1 of 7,000 is not ('gestern'): such rows are quarantined" in made.why("time")
    (shown,) = made.imported(tmp_path / "state").tables
    assert (shown.kept, shown.quarantined) == (6_999, 1)


def test_more_than_a_twentieth_does(tmp_path: Path) -> None:
    _write(tmp_path / "log", FORMS["iso"], 600, 40)
    with pytest.raises(DataError, match="says when a row happened.*--time COLUMN"):
        draft_of([tmp_path / "log"])


def test_what_is_given_goes_before_names(tmp_path: Path) -> None:
    listed = [
        {"time": each["moment"].isoformat(), "Gezeigt": each["moment"].isoformat(), "user_id": each["user"],
         "item_id": each["item"], "click": each["click"]} for each in events()
    ]  # fmt: skip
    write_csv(tmp_path / "log.csv", listed)
    assert draft_of([tmp_path]).guesses[1].guess == "time"
    assert draft_of([tmp_path], roles=Given(time="Gezeigt")).guesses[1].guess == "Gezeigt"
    with pytest.raises(
        DataError, match=r"--time: less than 95% of 'click' are times.*by their values time, Gezeigt may"
    ):
        draft_of([tmp_path], roles=Given(time="click"))
    with pytest.raises(DataError, match="--time: no file has a column 'Zeit'"):
        draft_of([tmp_path], roles=Given(time="Zeit"))
