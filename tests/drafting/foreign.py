"""Logs with names that are not English.

Belongs here: writing them. Not here: what a draft of them must be.
"""

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
