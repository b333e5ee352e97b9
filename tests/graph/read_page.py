"""The status page read as a browser would: tables as cells with their classes, charts as what is drawn.

Belongs here: parsing. Not here: what a test expects of it (test_page.py).
"""

import json
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

VOID = {"meta", "br", "line", "polyline", "circle"}


@dataclass
class Cell:
    """A cell's text in one line, and the classes of all that is in it."""

    text: str = ""
    classes: set[str] = field(default_factory=set)


@dataclass
class Table:
    caption: str = ""
    head: list[str] = field(default_factory=list)
    rows: list[list[Cell]] = field(default_factory=list)

    def cells(self, title: str) -> list[Cell]:
        """A column by its title."""
        return [row[self.head.index(title)] for row in self.rows]

    def texts(self, title: str) -> list[str]:
        return [cell.text for cell in self.cells(title)]


class Page(HTMLParser):
    """A page; text of scripts and styles is apart from what people read.

    Args:
        loads: all that a browser would fetch for it.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: list[Table] = []
        self.text, self.scripts, self.loads, self.links = "", [""], list[str](), list[str]()
        self._open: list[str] = []
        self._cell: Cell | None = None
        self.feed(text)
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        by = dict(attrs)
        self.loads += [str(by[name]) for name in ("src", "srcset", "data", "poster") if name in by]
        if "href" in by:
            (self.links if tag == "a" else self.loads).append(str(by["href"]))
        if tag == "table":
            self.tables.append(Table())
        elif tag == "tr" and "tbody" in self._open:
            self.tables[-1].rows.append([])
        elif tag in ("td", "th"):
            self._cell = Cell()
            if "tbody" in self._open:
                self.tables[-1].rows[-1].append(self._cell)
        if self._cell is not None:
            self._cell.classes |= set(str(by.get("class", "")).split())
            self._cell.text += " " if "sub" in str(by.get("class", "")).split() else ""  # a line of its own
        if tag == "script":
            self.scripts.append("")
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass  # shapes of a small line

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"</{tag}> closes another element"
        if tag in ("td", "th") and self._cell is not None:
            self._cell.text = " ".join(self._cell.text.split())
            if "thead" in self._open:
                self.tables[-1].head.append(self._cell.text)
            self._cell = None
        elif tag == "caption":
            self.tables[-1].caption = self.tables[-1].caption.strip()

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "script":
            self.scripts[-1] += data
        elif not self._open or self._open[-1] not in ("style", "title"):
            self.text += data
            if self._cell is not None:
                self._cell.text += data
            elif "caption" in self._open:
                self.tables[-1].caption += data

    def table(self, *titles: str) -> Table:
        """The one that has these columns."""
        (found,) = [table for table in self.tables if set(titles) <= set(table.head)]
        return found

    @property
    def charts(self) -> dict[str, Any]:
        """By place; anything that is no number of JSON's is an error, as it is in a browser."""

        def refuse(word: str) -> None:
            raise AssertionError(f"{word} is no JSON")

        texts = [script for script in self.scripts if re.match(r'\s*\{"', script)]
        return json.loads(texts[0], parse_constant=refuse) if texts else {}
