"""Words, charts, the small line and Vega's script: the parts of the status page, each on its own."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
import vl_convert

from pipeline.report import vega, words
from pipeline.report.charts import IN_PICTURE, difference_chart, differences, lag_chart, psi_chart, sparkline
from pipeline.report.moved import ne_at

START = datetime(2026, 1, 1, tzinfo=UTC)


def evaluations(*slices: tuple[float, float, int]) -> pl.DataFrame:
    """NE of student and control, and rows, slice by slice."""
    return pl.DataFrame(
        [
            {"slice": f"2026-01-{day + 1:02}", "slice_start": START + timedelta(days=day), "model": model,
             "ne": ne, "rows": rows}
            for day, (student, control, rows) in enumerate(slices)
            for model, ne in (("student", student), ("control", control))
        ]
    )  # fmt: skip


@pytest.mark.parametrize(("value", "said"), [
    (0.94191234, "0.9419"), (12.3456, "12.35"), (1234.5678, "1,235"), (33442, "33,442"), (0.0, "0"), (0, "0"),
    (-0.00123456, "-0.001235"), (float("nan"), "–"), (float("inf"), "–"), (None, "–"), (7, "7"),
])  # fmt: skip
def test_a_figure_has_four_significant_digits(value: object, said: str) -> None:
    assert words.figure(value) == said


def test_gains_ages_and_times_in_words() -> None:
    assert words.gain(0.003464, 0.001215) == "+0.35 % ± 0.12 %" and words.gain(-0.02, None) == "-2.00 %"
    assert words.percent(-1e-9) == "0.00 %" == words.percent(0.00004, sign=False)
    assert words.gain(0.1, float("nan")) == "+10.00 %" and words.percent(float("inf")) == "–"
    assert [words.age(timedelta(hours=hours)) for hours in (0.5, 30, 96)] == ["30 min", "30.0 h", "4.0 days"]
    assert words.moment("2026-01-02T03:04:05+02:00") == "2026-01-02 01:04 UTC" and words.moment(None) == "–"
    assert [words.interval_says(*bounds) for bounds in ((1, 2), (-2, -1), (-1, 1), (0, 1))] == [
        words.BETTER, words.WORSE, words.CHANCE, words.CHANCE,
    ]  # fmt: skip


def test_only_what_is_shown_to_be_better_is_green() -> None:
    said = (words.BETTER, words.WORSE, words.CHANCE, "too little data", "is its own control", "not judged yet")
    assert [words.gain_tone(each) for each in said] == ["good", "bad", "none", "none", "none", "none"]
    outcomes = ("passed", "refused", "too little data", "not judged")
    assert [words.gate_tone(each) for each in outcomes] == ["good", "warn", "none", "none"]


def test_the_band_of_a_slice_is_wider_where_it_has_fewer_rows() -> None:
    rows = differences(evaluations((0.9, 1.0, 300), (0.99, 1.0, 100)), gain_error=0.01)
    assert rows["difference"].to_list() == pytest.approx([-10, -1])
    # Two standard errors of the mean of 400 rows, times the root of what a slice's share of them is.
    assert (rows["high"] - rows["difference"]).to_list() == pytest.approx([(400 / 300) ** 0.5, 2.0])


@pytest.mark.parametrize("error", [None, float("nan"), float("inf")])
def test_without_an_error_there_is_no_band(error: float | None) -> None:
    rows = differences(
        evaluations((0.9, 1.0, 300), (0.95, float("nan"), 9), (0.9, 0.0, 9), (0.9, float("inf"), 9)), error
    )
    assert rows["slice"].to_list() == ["2026-01-01"] and rows["low"].to_list() == [None]


def test_the_small_line_goes_up_where_the_gain_does() -> None:
    line = sparkline([-1.0, float("nan"), 3.0])
    assert line is not None and line.points == "4.0,22.0 96.0,2.0" and line.last == (96.0, 2.0)
    assert 2.0 < line.zero < 22.0 and "the newest +3.00 %" in line.says and "over 2 slices" in line.says
    level, nothing = sparkline([0.0]), sparkline([float("nan")])
    assert level is not None and level.points == "4.0,22.0" and level.zero == 22.0 and nothing is None


def test_ne_before_a_finding_is_weighted_by_rows() -> None:
    table = evaluations((0.9, 1, 100), (0.8, 1, 300), (float("nan"), 1, 5), (0.7, 1, 10))
    assert ne_at(table, "2026-01-04") == (0.7, pytest.approx(0.825))
    assert ne_at(table, "2026-01-01") == (0.9, None) and ne_at(None, "2026-01-01") == (None, None)


def test_every_chart_can_be_drawn() -> None:
    rows = differences(evaluations((0.9, 1.0, 300), (0.99, 1.0, 100)), 0.01)
    lines = {"device": {START: 0.1, START + timedelta(days=1): float("nan")}}
    for chart in (
        difference_chart(rows, IN_PICTURE, width=300, name="mine"),
        psi_chart(lines, 0.2, [START], IN_PICTURE, width=300, name="mine"),
        lag_chart([1, 2, 4], {"student": [0.9, 0.91, float("nan")]}, IN_PICTURE, "mine"),
    ):
        assert vega.picture(chart, "what").startswith("![what](data:image/svg+xml;base64,")


def test_the_script_is_made_once_and_ends_no_element(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def bundle(snippet: str) -> str:
        made.append(snippet)
        return f'"</script><!--"; {snippet}'

    monkeypatch.setattr(vl_convert, "javascript_bundle", bundle)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    try:
        for _ in range(2):  # two processes
            vega.javascript.cache_clear()
            text = vega.javascript()
            assert "</script" not in text and "<!--" not in text and "vegaEmbed" in text
        assert len(made) == 1
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))  # no folder can be made there
        vega.javascript.cache_clear()
        assert vega.javascript() == text and len(made) == 2
    finally:
        vega.javascript.cache_clear()
