"""Logs with names that are not English.

Belongs here: writing them. Not here: what a draft of them must be.
"""

from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.drafting.logs import events, write_csv


def german_rows(rows: int = 600) -> list[dict[str, Any]]:
    """Names, times, decimal commas and labels as a German shop writes them; two days."""
    return [
        {
            "Zeitpunkt": f"{each['moment']:%d.%m.%Y %H:%M:%S}", "Nutzer": f"n{each['user']:06x}",
            "ArtikelNr": f"A-{each['item']:05}", "Gebot": f"{each['price']:.2f}".replace(".", ","),
            "Endgerät": each["device"], "Geklickt": ("nein", "ja")[each["click"]],
        }
        for each in events(rows, days=8)
    ]  # fmt: skip


def german(folder: Path) -> None:
    """A log and a table of its items."""
    write_csv(folder / "Ausspielungen.csv", german_rows(), ";")
    write_csv(folder / "Artikelstamm.csv", [
        {"ArtikelNr": f"A-{item:05}", "Warengruppe": f"g{item % 4}", "Preis": f"{item},5"} for item in range(1, 26)
    ], ";")  # fmt: skip


def german_shop(folder: Path) -> None:
    """Impressions, clicks of their own, more page views than impressions, that begin before them, and a catalogue.

    Each calls users and items otherwise. Seconds of the impressions are those that were watched after a click.
    """
    rows = events(2_000, days=8, seed=3)
    shown = [
        {
            "Kennung": f"anz-{number:08x}", "Zeit": f"{each['moment']:%Y-%m-%d %H:%M:%S}",
            "Kunde": f"k{each['user']:06}", "Artikel": f"A-{each['item']:05}", "Wo": ("Start", "Suche")[number % 2],
            "Gebot": each["price"], "Sekunden": round(each["click"] * (1 + each["price"] % 9), 1),
        }
        for number, each in enumerate(rows)
    ]  # fmt: skip
    write_csv(folder / "Kontakte.csv", shown)
    write_csv(folder / "Klicks.csv", [
        {"Kontakt": row["Kennung"], "Wann": f"{each['moment'] + timedelta(seconds=9):%Y-%m-%d %H:%M:%S}"}
        for row, each in zip(shown, rows, strict=True) if each["click"]
    ])  # fmt: skip
    write_csv(folder / "Aufrufe.csv", [
        {
            "Zeit": f"{each['moment'] - timedelta(days=5):%Y-%m-%d %H:%M:%S}", "Kundennummer": f"k{each['user']:06}",
            "Ware": f"A-{each['item']:05}", "dwell_seconds": number % 60,
        }
        for number, each in enumerate(events(3_000, days=12, seed=4))
    ])  # fmt: skip
    write_csv(folder / "Katalog.csv", [
        {"Nummer": f"A-{item:05}", "Warengruppe": f"g{item % 4}", "Preis": item + 0.5} for item in range(1, 26)
    ])  # fmt: skip
