"""Which of several tables is what, where no name tells it; and what of the impressions is known only afterwards."""

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from exfm.source_views import SourceView
from exfm_assets.draft import main
from pipeline.drafting.assembling import draft_of
from pipeline.drafting.given import Given
from pipeline.tables import DataError
from tests.drafting.drafts import Drafted, complaints, drafted
from tests.drafting.foreign import german_rows, german_shop
from tests.drafting.logs import camel, events, write_csv


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Drafted:
    folder = tmp_path_factory.mktemp("logs") / "laden"
    german_shop(folder)
    return drafted(folder, tmp_path_factory.mktemp("drafts"))


def test_impressions_are_the_rows_that_outcomes_name(shop: Drafted) -> None:
    log = shop.project.log
    assert log is not None and complaints(shop.file) == ""
    assert [files.paths for files in log.impressions] == [("Kontakte.csv",)]
    assert [files.paths for files in log.outcomes] == [("Klicks.csv",)]
    assert [task.name for task in shop.project.stream.tasks] == ["klick"]


def test_ids_of_other_files_by_name_and_by_value(shop: Drafted) -> None:
    log = shop.project.log
    assert log is not None
    (views,) = log.interactions
    assert {column.name: column.of for column in views.columns} == {"kunde": "Kundennummer", "artikel": "Ware"}
    (catalogue,) = (view for view in shop.project.feature_views if isinstance(view, SourceView))
    assert catalogue.files is not None and catalogue.files.paths == ("Katalog.csv",)
    assert catalogue.entities == ("artikel",) and "25 of 25 values of 'Artikel' stand in 'Nummer'" in shop.text


def test_what_is_known_afterwards_is_no_input(shop: Drafted) -> None:
    left = shop.draft.left_out["Sekunden"]
    assert "rows with a value of it have 'klick'" in left and "no input" in left
    assert [number.name for number in shop.project.stream.numbers] == ["gebot"]


def test_the_stream_begins_with_interactions(shop: Drafted) -> None:
    stream = shop.project.stream
    assert stream.impressions_from == datetime(2026, 1, 31, tzinfo=UTC)
    assert stream.first_slice == datetime(2026, 1, 26, tzinfo=UTC) and stream.slice_length == timedelta(days=1)
    assert "5 slices before" in shop.why("interactions")


def test_no_row_is_lost(shop: Drafted, tmp_path: Path) -> None:
    tables = {table.table: table for table in shop.imported(tmp_path).tables}
    assert {name: (each.kept, each.quarantined) for name, each in tables.items()} == {
        "impressions": (2_000, 0), "outcomes": (tables["outcomes"].read, 0), "interactions": (3_000, 0)
    }  # fmt: skip


def test_options_name_impressions_and_surface(
    shop: Drafted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, target = shop.folder, tmp_path / "mine.py"
    assert "--surface COLUMN sets one: of few values is Wo" in shop.why("surface")
    assert main([str(folder), "--to", str(target), "--surface", "Wo"]) == 0
    assert "surface: wo (set by --surface and has 2 values)" in capsys.readouterr().out
    draft = draft_of([folder], roles=Given(impressions=folder / "Aufrufe.csv"))
    assert next(each.guess for each in draft.guesses if each.what == "impressions") == "Aufrufe.csv"
    assert main([str(folder), "--to", str(tmp_path / "b.py"), "--surface", "Artikel"]) == 2
    assert "set it by --item COLUMN: by their values Kunde, Artikel may be it" in capsys.readouterr().out
    assert main([str(folder), "--to", str(tmp_path / "c.py"), "--surface", "Kennung"]) == 2
    assert "has 2,000 values" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(DataError, match="--impressions: .*other is none of the tables that were found: .*Kontakte.csv"):
        draft_of([folder], roles=Given(impressions=tmp_path / "other"))


def test_what_only_follows_the_outcome_a_little_stays(tmp_path: Path) -> None:
    """A price that is higher where people click is a feature, and so is a flag that only few rows have."""
    rows = german_rows(2_000)
    for number, row in enumerate(rows):
        clicked = row["Geklickt"] == "ja"
        row["Preis"] = number % 100 + 40 * clicked
        row["Neu"] = int(number % 200 == 0)
        row["Ort"] = "da" if clicked == (number % 10 > 0) else "dort"
        row["Bon"] = f"b{number % 3}" if clicked and number % 2 else ""
        row["Tiefe"] = number % 50 + 45 * clicked
    write_csv(tmp_path / "log" / "log.csv", rows, ";")
    made = drafted(tmp_path / "log", tmp_path / "draft")
    assert {each.name for each in made.project.stream.numbers} == {"gebot", "preis"}
    assert {"neu", "ort"} <= {each.name for each in made.project.stream.context}
    assert "it alone tells 'Geklickt' with an AUC of 0.9" in made.draft.left_out["Tiefe"]
    assert "100% of the" in made.draft.left_out["Bon"]


def test_a_surface_that_is_taken_for_the_user_is_refused(tmp_path: Path) -> None:
    camel(tmp_path / "log")
    with pytest.raises(DataError, match="--surface: 'userId' of log.csv is taken for the user: name that by --user"):
        draft_of([tmp_path / "log"], roles=Given(surface="userId"))
    draft = draft_of([tmp_path / "log"], roles=Given(surface="deviceType"))
    assert next(each.guess for each in draft.guesses if each.what == "surface") == "device_type"


def written(folder: Path, **tables: list[dict[str, Any]]) -> Path:
    for name, rows in tables.items():
        write_csv(folder / f"{name}.csv", rows)
    return folder


def base(rows: int = 2_000, seed: int = 0) -> list[dict[str, Any]]:
    """Time, user, item and click, by English names."""
    return [
        {"time": f"{each['moment']:%Y-%m-%d %H:%M:%S}", "user_id": each["user"], "item": f"i{each['item']:05}",
         "click": each["click"]}
        for each in events(rows, seed=seed)
    ]  # fmt: skip


def without(name: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != name} for row in rows]


def test_ids_that_are_called_the_same_and_share_no_value_name_no_impressions(tmp_path: Path) -> None:
    views = [{"event_id": f"pv{n:07}", **row} for n, row in enumerate(without("click", base(3_000, 1)))]
    bought = [{"event_id": f"pu{n:07}", **row} for n, row in enumerate(without("click", base(300, 2)))]
    made = drafted(written(tmp_path / "log", log=base(), views=views, bought=bought), tmp_path / "draft")
    assert made.project.log is not None and made.project.log.impressions[0].paths == ("log.csv",)
    assert [task.name for task in made.project.stream.tasks] == ["click"]


def test_a_flag_that_may_be_an_outcome_makes_no_table_the_impressions(tmp_path: Path) -> None:
    plays = [{**row, "watch_time": number % 90} for number, row in enumerate(without("click", base()))]
    orders = [{**row, "is_gift": number % 2} for number, row in enumerate(without("click", base(200, 1)))]
    made = drafted(written(tmp_path / "log", plays=plays, orders=orders), tmp_path / "draft")
    assert [task.name for task in made.project.stream.tasks] == ["watch_time"]


def test_of_columns_called_alike_the_one_with_the_values_counts(tmp_path: Path) -> None:
    catalogue = [
        {"item_code": f"x{n % 7}", "item_num": n % 4, "item_id": f"i{n:05}", "brand": f"b{n % 3}"} for n in range(1, 26)
    ]
    carts = [{"time": row["time"], "user_id": row["user_id"], "item_num": n % 8, "item_nummer": row["item"]}
             for n, row in enumerate(base(500, 1))]  # fmt: skip
    made = drafted(written(tmp_path / "log", log=base(), catalogue=catalogue, carts=carts), tmp_path / "draft")
    log = made.project.log
    assert log is not None and log.interactions[0].column("item").of == "item_nummer"
    (side,) = (view for view in made.project.feature_views if isinstance(view, SourceView))
    assert side.files is not None and side.files.column("item").of == "item_id"


def test_chance_is_no_leak(tmp_path: Path) -> None:
    """Few outcomes, and a column of many values that says nothing of them; and what follows a flag known before."""
    drawn = random.Random(5)
    rows = [
        {**row, "click": int(number % 300 == 7), "city": f"c{drawn.randrange(400)}", "is_video": number % 3 == 0,
         "video_seconds": 5 + number % 60 if number % 3 == 0 else 0}
        for number, row in enumerate(base(8_000))
    ]  # fmt: skip
    made = drafted(written(tmp_path / "log", log=rows), tmp_path / "draft")
    stream = made.project.stream
    assert {"city", "video_seconds"} <= {each.name for each in (*stream.context, *stream.numbers)}


def test_what_is_nan_has_no_value(tmp_path: Path) -> None:
    rows = [{**row, "sec": 4.5 if row["click"] and n % 2 else float("nan")} for n, row in enumerate(base())]
    (tmp_path / "log").mkdir()
    pl.DataFrame(rows).write_parquet(tmp_path / "log" / "log.parquet")
    made = drafted(tmp_path / "log", tmp_path / "draft")
    assert "100% of the" in made.draft.left_out["sec"]


def test_a_surface_that_is_the_label_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--surface takes 'click', which may be the label"):
        draft_of([written(tmp_path / "log", log=base())], roles=Given(surface="click"))
