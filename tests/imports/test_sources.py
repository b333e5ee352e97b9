"""What is wrong with a table that somebody else keeps, and what is left out of it."""

import sys
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from exfm.errors import DeclarationError
from exfm.inputs import Number
from exfm.log_columns import Column
from exfm.log_files import Files, From
from exfm.source_views import SourceView
from pipeline.imports.sources import source_digest, source_rows
from pipeline.tables import DataError
from tests.graph.test_source_views import CATALOGUE, DAY, FIRST, THEIRS, catalogue, their_repository
from tests.tiny import tiny_project


def rows_of(view: SourceView, log: Path) -> pl.DataFrame:
    return source_rows(view, tiny_project().stream, log, FIRST, FIRST + DAY).frame


def test_what_is_wrong_with_a_source_is_said(tmp_path: Path) -> None:
    good = catalogue().head(3)
    with pytest.raises(DataError, match=r"^SourceView\(catalogue\)\.path: .* is no parquet file and holds none"):
        rows_of(CATALOGUE, tmp_path)
    path = tmp_path / "catalogue" / "a.parquet"
    path.parent.mkdir()
    for frame, sentence in (
        (good.drop("price"), r"SourceView\(catalogue\)\.price: no such column in a\.parquet: write it as Float32"),
        (good.drop("valid_from"), r"SourceView\(catalogue\)\.valid_from: no such column in a\.parquet"),
        (good.with_columns(category=pl.lit(5)), r"SourceView\(catalogue\)\.category is Int32 in a\.parquet"),
        (
            good.with_columns(pl.col("valid_from").dt.replace_time_zone(None)),
            r"SourceView\(catalogue\)\.valid_from is naive",
        ),
        (good.with_columns(image=pl.lit([1.0])), r"\.image: a vector of 1 floats in a\.parquet, not 3"),
    ):
        frame.write_parquet(path)
        with pytest.raises(DataError, match=sentence):
            rows_of(CATALOGUE, tmp_path)
    path.write_bytes(b"PAR1 cut")
    with pytest.raises(DataError, match=r"a\.parquet can't be read .*: write it again"):
        rows_of(CATALOGUE, tmp_path)


def test_the_last_of_equal_rows_counts_and_one_without_a_key_is_nobodys(tmp_path: Path) -> None:
    twice = (
        catalogue()
        .head(2)
        .with_columns(valid_from=pl.lit(FIRST, pl.Datetime("ms", "UTC")), item_id=pl.lit(1, pl.Int64))
    )
    nobody = twice.head(1).with_columns(item_id=pl.lit(None, pl.Int64))
    (tmp_path / "catalogue").mkdir()
    pl.concat([twice, nobody]).write_parquet(tmp_path / "catalogue" / "a.parquet")
    assert rows_of(CATALOGUE, tmp_path)["price"].to_list() == [twice["price"][1]]
    undated = twice.head(1).with_columns(valid_from=pl.lit(None, pl.Datetime("ms", "UTC")))
    undated.write_parquet(tmp_path / "catalogue" / "b.parquet")
    read = source_rows(CATALOGUE, tiny_project().stream, tmp_path, FIRST, FIRST + DAY)
    assert read.sentence(CATALOGUE) == (
        "SourceView(catalogue): rows left out: 1 without item_id, 1 without valid_from, "
        "1 repeated, of which the last one counts"
    )
    later = source_rows(CATALOGUE, tiny_project().stream, tmp_path, FIRST + DAY, FIRST + 2 * DAY)
    assert later.frame.is_empty() and later.sentence(CATALOGUE) == ""  # said once, not by every slice


def test_a_delta_table_is_its_newest_version(tmp_path: Path) -> None:
    """Files of versions before lie beside it, and are no rows."""
    old = catalogue().unique("item_id").head(20).with_columns(valid_from=pl.lit(FIRST, pl.Datetime("ms", "UTC")))
    new = old.head(5).with_columns(price=pl.lit(7.0))
    folder, view = tmp_path / "catalogue", replace(CATALOGUE, path="catalogue")
    old.write_delta(str(folder))
    was = source_digest(view, tmp_path)
    assert rows_of(view, tmp_path).height == 20 and was == source_digest(view, tmp_path)
    new.write_delta(str(folder), mode="overwrite")
    assert len(list(folder.glob("*.parquet"))) == 2
    assert rows_of(view, tmp_path)["price"].to_list() == [7.0] * 5 and source_digest(view, tmp_path) != was
    (folder / "_delta_log" / "00000000000000000001.json").write_text("cut")
    assert source_digest(view, tmp_path) != was  # looking stops nothing
    with pytest.raises(DataError, match=r"SourceView\(catalogue\)\.path: .*catalogue can't be read as a Delta table"):
        rows_of(view, tmp_path)


def test_without_deltalake_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue().head(2).write_delta(str(tmp_path / "catalogue"))
    monkeypatch.setitem(sys.modules, "deltalake", None)
    with pytest.raises(DataError, match=r"deltalake is not installed: pip install 'exfm\[delta\]'"):
        rows_of(replace(CATALOGUE, path="catalogue"), tmp_path)


def test_what_is_wrong_with_their_repository_is_said(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match=r"^SourceView\.feast: .*their_repo has no feature_store\.yaml"):
        rows_of(THEIRS, tmp_path)
    their_repository(tmp_path / "their_repo")
    with pytest.raises(DeclarationError, match=r"^SourceView\.view: .* has no view 'theirs': use one of spending"):
        rows_of(replace(THEIRS, view=None), tmp_path)
    with pytest.raises(DeclarationError, match=r"^SourceView\.inputs: view 'spending' .* has no feature 'income'"):
        rows_of(replace(THEIRS, inputs=(Number(name="income"),)), tmp_path)
    before = {path: path.read_bytes() for path in (tmp_path / "their_repo").iterdir() if path.is_file()}
    assert rows_of(THEIRS, tmp_path).height > 100
    assert {path: path.read_bytes() for path in before} == before  # nothing of theirs is written


def test_files_of_any_kind_and_a_value_that_cant_be_read_costs_no_row(tmp_path: Path) -> None:
    """Of a CSV with decimal commas: a price that is no number is null, a row without its key is left out."""
    (tmp_path / "items.csv").write_text("Artikel;Preis;Gruppe\ni1;1,50;a\ni2;billig;b\n;2,0;c\n", encoding="utf-8")
    columns = (From(name="item_id", of="Artikel"), From(name="price", of="Preis"), From(name="category", of="Gruppe"))
    files = Files(paths=("*.csv",), separator=";", decimal=",", columns=columns)
    view = SourceView(
        name="items", entities=("item_id",), files=files,
        inputs=(Number(name="price"), Column(name="category", rows=9, dtype=str)),
    )  # fmt: skip
    stream = replace(tiny_project().stream, item=Column(name="item_id", rows=9, dtype=str))
    read = source_rows(view, stream, tmp_path, FIRST, FIRST + DAY)
    assert read.frame.select("item_id", "price", "category").rows() == [("i1", 1.5, "a"), ("i2", None, "b")]
    assert read.sentence(view) == (
        "SourceView(items): rows left out: 1 without item_id; "
        "values that are null: 1 for price is no number: billig in items.csv"
    )
