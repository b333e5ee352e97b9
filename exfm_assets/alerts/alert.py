"""One alert, and the book of what was said: what begins, what goes on for long, what is resolved.

Belongs here: what is news. Not here: finding what alerts (checks.py, releases.py, runs.py), sending it (webhook.py).

The book is the sensor's cursor, so a daemon that starts again says nothing twice. What could not be sent stays news.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

Kind = Literal["check_failed", "release_stale", "run_failed_twice", "test"]
State = Literal["begins", "still", "resolved"]
LONGEST = 400  # characters of a sentence: a message to people, not a log
RED = 'see docs/upkeep.md, "When something is red"'


@dataclass(frozen=True)
class Alert:
    """Something that needs a person.

    Args:
        asset: as ``student/feed_click/release``.
        since: when it began.
        says: what is wrong, in one sentence.
        do: what to do about it.
        check: its name, where one failed.
        slices: ``first...last``, or one key; ``None`` where slices don't matter.
        run: the id of the newest run that showed it.
        step: what failed in that run.
    """

    kind: Kind
    asset: str
    since: datetime
    says: str
    do: str
    check: str | None = None
    slices: str | None = None
    run: str | None = None
    step: str | None = None

    @property
    def key(self) -> str:
        """What it is about: the same for as long as it lasts."""
        return " ".join([self.kind, self.step or self.asset, self.check or ""]).strip()


@dataclass(frozen=True)
class News:
    """An alert, and what is new of it."""

    state: State
    alert: Alert
    until: datetime | None = None


@dataclass(frozen=True)
class Entry:
    """What the book says of one alert: when it was said last, and when it ended; ``None``: not yet."""

    alert: Alert
    said: datetime | None = None
    ended: datetime | None = None


@dataclass(frozen=True)
class Book:
    """All alerts that were said, or are still to be said, by key."""

    entries: dict[str, Entry]

    def looked(self, found: Iterable[Alert], at: datetime) -> "Book":
        """The book after a look at what alerts now."""
        now = {alert.key: alert for alert in found}
        entries = {}
        for key, alert in now.items():
            before = self.entries.get(key)
            # It began when it was first seen, even if the first of what it is made of was mended since.
            since = alert.since if before is None or before.ended else min(before.alert.since, alert.since)
            entries[key] = Entry(replace(alert, since=since), None if before is None else before.said)
        for key, entry in self.entries.items():
            if key not in now:
                entries[key] = entry if entry.ended is not None else replace(entry, ended=at)
        return Book(entries)

    def news(self, at: datetime, again: timedelta | None) -> list[News]:
        """What is to be said: what begins first, what is resolved last; oldest first."""
        found = []
        for entry in self.entries.values():
            if entry.ended is not None:
                found.append(News("resolved", entry.alert, entry.ended))
            elif entry.said is None:
                found.append(News("begins", entry.alert))
            elif again is not None and at - entry.said >= again:
                found.append(News("still", entry.alert))
        order = ("begins", "still", "resolved")
        return sorted(found, key=lambda one: (order.index(one.state), one.alert.since, one.alert.key))

    def said(self, news: Iterable[News], at: datetime) -> "Book":
        """The book once its news was taken: what has ended is forgotten."""
        told = {one.alert.key for one in news}
        return Book({
            key: replace(entry, said=at) if key in told else entry
            for key, entry in self.entries.items()
            if entry.ended is None
        })  # fmt: skip

    def written(self) -> str:
        """As a sensor's cursor keeps it."""
        return json.dumps([asdict(entry) for entry in self.entries.values()], default=datetime.isoformat)

    @classmethod
    def read(cls, cursor: str | None) -> "Book":
        """Of a cursor; an empty one where there is none, or where it is of another kind."""
        try:
            entries = [_entry(plain) for plain in json.loads(cursor or "[]")]
        except (ValueError, TypeError, KeyError):  # somebody set it by hand: all is said once more
            entries = []
        return cls({entry.alert.key: entry for entry in entries})


def _entry(plain: dict[str, Any]) -> Entry:
    alert = Alert(**{**plain["alert"], "since": datetime.fromisoformat(plain["alert"]["since"])})
    said, ended = (datetime.fromisoformat(plain[name]) if plain[name] else None for name in ("said", "ended"))
    return Entry(alert, said, ended)


def sentence_of(text: str | None) -> str:
    """On one line, and not for ever."""
    line = " ".join((text or "").split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 3]}..."


def moment(timestamp: float) -> datetime:
    return datetime.fromtimestamp(timestamp, UTC)
