"""Refused rows are looked at, mended and read again by one command, and the account stays true."""

import json
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from exfm_assets import quarantine as command
from pipeline.imports.run import account_of
from pipeline.slices.refused_rows import broken_rows, mend_broken
from pipeline.tables import DataError
from tests.graph.runs import run
from tests.imports.logs import PLAIN, csv, quarantine, read_in, rows, workspace

SOUND = "1,a,d,2026-01-01,1,0"


def _mended(path: Path, change: dict[str, object]) -> None:
    """Mend what ``--to`` wrote: each row whose values have a name gets the new value."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        if isinstance(line["values"], str):
            line["values"] = change["line"]
        else:
            line["values"] |= {name: value for name, value in change.items() if name in line["values"]}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_mended_rows_are_in_the_log_with_the_ids_they_would_have_had(tmp_path: Path) -> None:
    work, out = workspace(tmp_path), tmp_path / "rows.jsonl"
    log = work.state.data / "log.csv"
    log.write_text(csv(SOUND, "x,b,d,2026-01-02,1,0", "1,c,d,2026-01-03,oops,1", "9,e,d", SOUND))
    read_in(work)
    assert list(command.counted(work))[0] == "impressions: 3 rows of its files can't be read"
    assert "3 rows are in" in command.written(work, "impressions", "", out)
    _mended(out, {"user": "5", "line": "9,e,d,2026-01-01,2,1"})
    said = list(command.mended(work, out))
    assert said[0].startswith("2 rows are in the log now")
    assert said[1] == "  still refused: log.csv row 3: price is no number: oops"
    assert quarantine(work) == ["price is no number: oops"]
    account = account_of(work).tables[0]
    assert (account.read, account.kept, account.quarantined) == (5, 4, 1)
    got = dict(rows(work).filter(pl.col("item_id") == "b").select("user_id", "impression_id").iter_rows())
    log.write_text(csv(SOUND, "5,b,d,2026-01-02,1,0", "1,c,d,2026-01-03,3,1", SOUND))
    read_in(work)
    assert dict(rows(work).filter(pl.col("item_id") == "b").select("user_id", "impression_id").iter_rows()) == got


def test_mending_twice_does_it_once(tmp_path: Path) -> None:
    work, out = workspace(tmp_path), tmp_path / "rows.jsonl"
    (work.state.data / "log.csv").write_text(csv(SOUND, "x,b,d,2026-01-02,1,0"))
    read_in(work)
    command.written(work, "impressions", "", out)
    _mended(out, {"user": "5"})
    list(command.mended(work, out))
    assert list(command.mended(work, out))[1].startswith("1 rows are not in quarantine (any more)")
    assert rows(work).height == 2 and list(command.counted(work)) == ["no row is in quarantine"]
    assert not read_in(work).read_in


def test_what_was_not_mended_is_left_alone_and_all_that_is_done_is_said(tmp_path: Path) -> None:
    work, out = workspace(tmp_path), tmp_path / "rows.jsonl"
    lines = ("x,b,d,2026-01-02,1,0", "y,c,d,2026-01-02,1,0", "9,e,d")
    (work.state.data / "log.csv").write_text(csv(SOUND, *lines))
    read_in(work)
    command.written(work, "impressions", "", out)
    assert list(command.mended(work, out))[:2] == [
        "0 rows are in the log now; `exfm run` makes their slices again", "3 rows are as they were, and left alone"
    ]  # fmt: skip
    rows_out = [json.loads(line) for line in out.read_text().splitlines()]
    rows_out[0]["values"]["user"] = "5"
    rows_out[2]["values"] = "9,e,d,2026-01-01"
    out.write_text("".join(json.dumps(row) + "\n" for row in rows_out))
    said = list(command.mended(work, out))
    assert said[0].startswith("1 rows are in the log now") and said[1].startswith("1 rows are as they were")
    assert said[2].startswith("  still refused: log.csv line 5: it has 4 columns, not 6: write user,item,")
    assert rows(work).height == 2 and len(quarantine(work)) == 2


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_rows_of_other_kinds_of_files_are_mended_too(tmp_path: Path, kind: str) -> None:
    files = replace(PLAIN, columns=tuple(c if c.name != "surface" else c for c in PLAIN.columns))
    work, out = workspace(tmp_path, files), tmp_path / "rows.jsonl"
    frame = pl.DataFrame(
        {"user": ["1", "u2"], "item": ["a", "b"], "device": ["d", "d"], "ts": ["2026-01-01"] * 2, "price": [1.5, 2.5]}
    ).with_columns(click=pl.Series([True, False]))
    path = work.state.data / f"log.{kind}"
    frame.write_parquet(path) if kind == "parquet" else frame.write_ndjson(path)
    read_in(work)
    command.written(work, "impressions", "", out)
    _mended(out, {"user": "2"})
    list(command.mended(work, out))
    assert rows(work).sort("item_id").select("user_id", "item_id", "price", "click").rows() == [
        (1, "a", 1.5, 1), (2, "b", 2.5, 0)
    ]  # fmt: skip


def test_rows_that_break_the_contract_are_mended_into_the_log(tmp_path: Path) -> None:
    work = workspace(tmp_path, replace(PLAIN, columns=PLAIN.columns[1:]), quarantine_limit=1.0)
    header = "user,item,device,ts,price,click,surface"
    (work.state.data / "log.csv").write_text(csv(*[SOUND + ",all"] * 5, SOUND + ",nowhere", header=header))
    select = " or ".join(f'key:"{name}"' for name in ("imported_log", "impressions"))
    assert run(work, "2026-01-01", "2026-01-03", select).success
    (broken,) = broken_rows(work, "impressions")
    assert broken.reason == "unknown surface: nowhere"
    plain = json.loads(json.dumps(broken.plain(), default=command._plain))["values"]
    with pytest.raises(DataError, match="1 mended rows still break the contract: unknown surface: nowhere"):
        mend_broken(work, "impressions", [plain | {"price": 7.0}])
    with pytest.raises(DataError, match="'where' is no column of the log"):
        mend_broken(work, "impressions", [plain | {"where": 1}])
    out = tmp_path / "rows.jsonl"
    command.written(work, "impressions", "surface", out)
    _mended(out, {"surface": "all"})
    said = [list(command.mended(work, out)) for _ in range(2)]
    assert said[0][0].startswith("impressions: 1 rows are in the log now")
    assert said[1] == ["impressions: 1 rows are as they were, or were mended before, and left alone"]
    assert run(work, "2026-01-01", "2026-01-03", select).success
    assert work.table("impressions").rows(work.project.stream.slice_at(0)) == 6
    assert work.quarantine("impressions").rows(work.project.stream.slice_at(0)) == 1


def test_refused_rows_of_any_text_are_written_out_and_read_again(tmp_path: Path) -> None:
    work, out = workspace(tmp_path), tmp_path / "rows.jsonl"
    plain = {"user": "x", "device": "d", "ts": "2026-01-01", "price": 1, "click": 0}
    lines = [json.dumps({**plain, "item": text}, ensure_ascii=False) for text in ("a\u2028b", "c\u0085d")]
    (work.state.data / "log.jsonl").write_text(
        "\n".join([*lines, '{"user": "x", "item": "\\ud800", "ts": "2026-01-01"}'])
    )
    read_in(work)
    assert command.written(work, "impressions", "", out).startswith("3 rows are in")
    out.write_text(out.read_text().replace('"user": "x"', '"user": "4"'))
    list(command.mended(work, out))
    assert {"a\u2028b", "c\u0085d"} <= set(rows(work)["item_id"])


def test_that_some_rows_are_not_shown_is_said_beside_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    work = workspace(tmp_path, quarantine_limit=1.0)
    (work.state.data / "log.csv").write_text(csv(SOUND, *(f"x{row},a,d,2026-01-01,1,0" for row in range(7))))
    read_in(work)
    monkeypatch.setattr(command, "load_project", lambda: work.project)
    monkeypatch.setattr(command, "load_state", lambda project: work.state)
    for given, shown, more in (([], 5, "--rows 50"), (["--rows", "7"], 7, ""), (["--rows", "0"], 0, "--rows 10")):
        assert command.main(["impressions", *given]) == 0
        said = capsys.readouterr()
        assert len([json.loads(line) for line in said.out.splitlines()]) == shown
        assert more in said.err and bool(said.err) == bool(more)
