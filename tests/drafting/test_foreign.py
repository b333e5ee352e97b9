"""A log whose names are not English: roles, numbers and labels are told by their values, or by options."""

from pathlib import Path

import pytest

from exfm_assets.draft import main
from pipeline.drafting.assembling import draft_of
from pipeline.drafting.given import Given
from pipeline.tables import DataError
from tests.drafting.drafts import complaints, drafted
from tests.drafting.foreign import german, german_rows
from tests.drafting.logs import write_csv


def test_roles_by_value(tmp_path: Path) -> None:
    german(tmp_path / "log")
    made = drafted(tmp_path / "log", tmp_path / "draft")
    stream = made.project.stream
    assert (stream.user.name, stream.item.name) == ("nutzer", "artikel_nr")
    assert "a guess by values" in made.why("user") and "--user COLUMN sets another" in made.why("user")
    assert "'ArtikelNr' keys Artikelstamm.csv" in made.why("item") and "--item COLUMN" in made.why("item")
    assert complaints(made.file) == ""
    (shown, *_) = made.imported(tmp_path / "state").tables
    assert (shown.kept, shown.quarantined) == (600, 0)


def test_decimal_commas_are_numbers(tmp_path: Path) -> None:
    german(tmp_path / "log")
    made = drafted(tmp_path / "log", tmp_path / "draft")
    assert [each.name for each in made.project.stream.numbers] == ["gebot"] and not made.project.stream.bags
    assert """From(name="gebot", sql="replace(\\"Gebot\\", ',', '.')")""" in made.text
    assert """From(name="preis", sql="replace(\\"Preis\\", ',', '.')")""" in made.text
    assert "its decimal commas are read as points" in made.text


def test_a_price_is_no_user_although_some_are_broken_and_most_differ(tmp_path: Path) -> None:
    rows = german_rows(2_000)
    for number, row in enumerate(rows):
        row["Gebot"] = f"{number % 1_500 + 3},{number % 1_500 % 97:02}" if number % 300 else "defekt"
    write_csv(tmp_path / "log" / "log.csv", rows, ";")
    made = drafted(tmp_path / "log", tmp_path / "draft")
    assert made.project.stream.user.name == "nutzer"
    assert [each.name for each in made.project.stream.numbers] == ["gebot"]


def test_thousands_and_one_word_among_numbers(tmp_path: Path) -> None:
    rows = german_rows(2_000)
    for number, row in enumerate(rows):
        row["Umfang"] = f"1.{number % 900 + 100},25"
    rows[7]["Gebot"] = "billig"
    write_csv(tmp_path / "log" / "log.csv", rows, ";")
    made = drafted(tmp_path / "log", tmp_path / "draft")
    assert {each.name for each in made.project.stream.numbers} == {"gebot", "umfang"}
    assert "1 of 2,000 is no number" in made.text
    assert made.imported(tmp_path / "state").tables[0].quarantined == 1


@pytest.mark.parametrize(
    "yes, no", [("ja", "nein"), ("yes", "no"), ("Y", "N"), ("true", "false"), ("J", "N"), ("1", "0")]
)
def test_two_texts_are_a_label(yes: str, no: str, tmp_path: Path) -> None:
    rows = german_rows()
    for row in rows:
        row["Reaktion"] = yes if row.pop("Geklickt") == "ja" else no
    write_csv(tmp_path / "log" / "log.csv", rows, ";")
    made = drafted(tmp_path / "log", tmp_path / "draft")
    assert [(task.name, task.label) for task in made.project.stream.tasks] == [("reaktion", "reaktion")]
    assert "--label COLUMN sets another" in made.why("task")
    if yes not in ("1", "true"):
        case = f"WHEN '{yes.lower()}' THEN '1' WHEN '{no.lower()}' THEN '0' ELSE"
        assert case in made.text and f"{yes.lower()!r} counts as 1" in made.why("task")
    (shown, *_) = made.imported(tmp_path / "state").tables
    assert (shown.kept, shown.quarantined) == (600, 0)


def test_one_other_text_hides_no_label(tmp_path: Path) -> None:
    rows = german_rows(2_000)
    rows[9]["Geklickt"] = "vielleicht"
    write_csv(tmp_path / "log" / "log.csv", rows, ";")
    made = drafted(tmp_path / "log", tmp_path / "draft")
    assert [task.name for task in made.project.stream.tasks] == ["geklickt"]
    assert made.imported(tmp_path / "state").tables[0].quarantined == 1


def test_two_columns_of_two_values_are_for_a_person_to_choose(tmp_path: Path) -> None:
    rows = german_rows()
    for number, row in enumerate(rows):
        row["Reaktion"] = row.pop("Geklickt")
        row["Neu"] = ("ja", "nein")[number % 3 == 0]
    write_csv(tmp_path / "log" / "log.csv", rows, ";")
    with pytest.raises(DataError, match="set it by --label COLUMN: by their values Reaktion, Neu may be it$"):
        draft_of([tmp_path / "log"])
    draft = draft_of([tmp_path / "log"], roles=Given(label="Reaktion"))
    assert [each.guess for each in draft.guesses if each.what == "task"] == ["reaktion"]


def test_refusals_name_option_and_candidates(tmp_path: Path) -> None:
    rows = [{name: row[name] for name in row if name not in ("Nutzer", "ArtikelNr")} for row in german_rows()]
    write_csv(tmp_path / "log" / "log.csv", rows, ";")
    with pytest.raises(DataError, match="set it by --item COLUMN: by its values none may be it$"):
        draft_of([tmp_path / "log"])
    rows = [{name: row[name] for name in row if name != "Nutzer"} for row in german_rows()]
    write_csv(tmp_path / "log" / "log.csv", rows, ";")
    with pytest.raises(DataError, match="set it by --user COLUMN: .*ArtikelNr may be it$|set it by --item COLUMN"):
        draft_of([tmp_path / "log"])


def test_the_command_takes_roles(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    german(tmp_path / "log")
    target = tmp_path / "mine.py"
    roles = ["--time", "Zeitpunkt", "--user", "ArtikelNr", "--item", "Nutzer", "--label", "Geklickt"]
    assert main([str(tmp_path / "log"), "--to", str(target), *roles]) == 0
    said = capsys.readouterr().out
    for option in ("--time", "--user", "--item", "--label"):
        assert f"set by {option}" in said
    assert "user: ArtikelNr (set by --user)" in said
    assert main([str(tmp_path / "log"), "--to", str(tmp_path / "b.py"), "--label", "Endgerät"]) == 2
    said = " ".join(capsys.readouterr().out.split())
    assert "--label: 'Endgerät' of Ausspielungen.csv is no label" in said
    assert said.endswith("set it by --label COLUMN: by their values Geklickt may be it")
    assert main([str(tmp_path / "log"), "--to", str(tmp_path / "b.py"), "--user", "Wer"]) == 2
    assert "--user: no file has a column 'Wer'" in capsys.readouterr().out
    assert main([str(tmp_path / "log"), "--to", str(tmp_path / "b.py"), "--user", "Preis"]) == 2
    assert "--user" in capsys.readouterr().out


def test_outcomes_by_the_values_of_their_ids(tmp_path: Path) -> None:
    german(tmp_path / "log")
    rows = [{"Anzeigenkennung": f"anz-{number:08x}", **row} for number, row in enumerate(german_rows(2_000))]
    shown = [{name: row[name] for name in row if name != "Geklickt"} for row in rows]
    write_csv(tmp_path / "log" / "Ausspielungen.csv", shown, ";")
    bought = [
        {"Anzeige": row["Anzeigenkennung"], "Wann": row["Zeitpunkt"], "Wert": 1.5 * number}
        for number, row in enumerate(rows)
        if row["Geklickt"] == "ja"
    ]
    bought[3]["Anzeige"], bought[4]["Wann"] = "anz-fffffffff", "gestern"
    write_csv(tmp_path / "log" / "Kaeufe.csv", bought)
    made = drafted(tmp_path / "log", tmp_path / "draft")
    assert "values of 'Anzeige' are values of 'Anzeigenkennung' of the impressions" in made.why("outcomes")
    assert [task.name for task in made.project.stream.tasks] == ["kaeufe"]
    assert made.project.log is not None and made.project.log.impressions[0].id == "Anzeigenkennung"
