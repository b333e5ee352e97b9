"""What can't be drafted is refused in one sentence that says why, and what to do."""

import gzip
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from exfm_assets.draft import main
from pipeline.drafting.assembling import draft_of
from pipeline.tables import DataError
from tests.drafting.logs import camel, events, write_csv


def _without(*names: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        rows = [
            {
                "time": f"{each['moment']:%Y-%m-%d %H:%M:%S}", "user_id": each["user"], "item_id": each["item"],
                "click": each["click"], "price": each["price"],
            }
            for each in events(200)
        ]  # fmt: skip
        write_csv(folder / "log.csv", [{name: row[name] for name in row if name not in names} for row in rows])

    return write


def _only_clicks(folder: Path) -> None:
    write_csv(folder / "log.csv", [
        {"time": each["moment"], "user_id": each["user"], "item_id": each["item"], "click": 1} for each in events(200)
    ])  # fmt: skip


def _events(folder: Path) -> None:
    kinds = ("view", "addtocart", "purchase")
    write_csv(folder / "events.csv", [
        {"timestamp": each["moment"], "visitorid": each["user"], "event": kinds[n % 3], "itemid": each["item"]}
        for n, each in enumerate(events(200))
    ])  # fmt: skip


def _cut_off(folder: Path) -> None:
    camel(folder)
    packed = gzip.compress((folder / "log.csv").read_bytes())
    (folder / "log.csv").unlink()
    (folder / "log.csv.gz").write_bytes(packed[: len(packed) // 2])


def _cut_parquet(folder: Path) -> None:
    folder.mkdir()
    pl.DataFrame({"user_id": [1, 2], "item_id": [1, 2]}).write_parquet(folder / "log.parquet")
    whole = (folder / "log.parquet").read_bytes()
    (folder / "log.parquet").write_bytes(whole[: len(whole) // 2])


def _no_names(folder: Path) -> None:
    folder.mkdir()
    (folder / "log.csv").write_text("1,0.5,1771234567,7\n0,0.25,1771234568,8\n")


def _nothing(folder: Path) -> None:
    folder.mkdir()
    (folder / "readme.md").write_text("nothing here")


def _empty(folder: Path) -> None:
    folder.mkdir()
    (folder / "log.csv").touch()


def _one_array(folder: Path) -> None:
    folder.mkdir()
    (folder / "log.json").write_text(
        '[\n{"time": 1771234567,\n"user_id": 1},\n{"time": 1771234568,\n"user_id": 2}\n]\n'
    )


WRONG: dict[str, tuple[Callable[[Path], None], str]] = {
    "no time": (_without("time"), "no stream: no column of log.csv says when a row happened"),
    "no label": (_without("click"), "no label and no outcome: no column of log.csv says what came of a row"),
    "no item": (_without("item_id"), "no item: log.csv name nothing that was shown"),
    "no user": (_without("user_id"), "no user: log.csv names nobody who saw it"),
    "only clicks": (_only_clicks, "'click' is 1 in all 200 rows looked at: rows without the outcome are needed"),
    "events": (_events, "has a row for each event ('event' is"),
    "cut off": (_cut_off, "log.csv.gz is not a whole csv file"),
    "cut parquet": (_cut_parquet, "log.parquet is not a whole parquet file"),
    "no names": (_no_names, "log.csv: its first line holds values, not names"),
    "nothing": (_nothing, "holds no file of a log, only readme.md"),
    "empty": (_empty, "log.csv is empty"),
    "one array": (_one_array, "JSON has one object a line"),
}


@pytest.mark.parametrize("what", WRONG)
def test_one_sentence_says_why(what: str, tmp_path: Path) -> None:
    write, sentence = WRONG[what]
    write(tmp_path / "log")
    with pytest.raises(DataError) as refused:
        draft_of([tmp_path / "log"])
    assert sentence in str(refused.value) and "\n" not in str(refused.value)


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not there: name a file or a folder"):
        draft_of([tmp_path / "nowhere"])


def test_the_command_prints_what_it_guessed_and_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    camel(tmp_path / "log")
    target = tmp_path / "mine.py"
    assert main([str(tmp_path / "log"), "--to", str(target), "--name", "mine"]) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[-1] == f"  EXFM_DATA={tmp_path / 'log'} EXFM_PROJECT={target} exfm run"
    assert said.splitlines()[-2].endswith("exfm run --plan") and said.startswith("600 rows of 1 file were looked at")
    assert "user: userId ('userId' is called so" in said and 'name="mine"' in target.read_text()


def test_a_file_that_is_there_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    camel(tmp_path / "log")
    (tmp_path / "mine.py").write_text("PROJECT = None\n")
    assert main([str(tmp_path / "log"), "--to", str(tmp_path / "mine.py")]) == 2
    assert "is there already" in capsys.readouterr().out and (tmp_path / "mine.py").read_text() == "PROJECT = None\n"


def test_a_log_that_can_not_be_one_is_refused_by_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _without("time")(tmp_path / "log")
    assert main([str(tmp_path / "log"), "--to", str(tmp_path / "mine.py")]) == 2
    assert "no stream" in capsys.readouterr().out and not (tmp_path / "mine.py").exists()
