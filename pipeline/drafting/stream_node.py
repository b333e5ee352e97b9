"""The ``Stream`` of a draft, written out.

Belongs here: the node of ``Stream`` and of what it holds. Not here: what is guessed (parts.py, tasks.py, inputs.py).
"""

from dataclasses import dataclass
from datetime import datetime

import duckdb

from pipeline.drafting.inputs import Inputs
from pipeline.drafting.kinds import dtype_of, rows_for
from pipeline.drafting.log_drafted import Named
from pipeline.drafting.models_drafted import length
from pipeline.drafting.parts import Parts, Say
from pipeline.drafting.slices import DAY, MINUTE, Cut, Measured
from pipeline.drafting.syntax import Argument, Call, Node, Plain, call, listing
from pipeline.drafting.tasks import Told
from pipeline.imports.reading import quoted

POLICY = "how likely the logging policy was to show it: no model reads it, for it would learn the policy"
KNOWN = "the newest outcome: what comes of later windows is not known; drop it when new rows come"
AT_SERVING = "an input, if it is known when a student is asked; else drop it from SEEN_BY_STUDENTS"


@dataclass(frozen=True)
class StreamParts:
    """All that a stream is written of.

    Args:
        surfaces: values, those of the most rows first.
        measured: impressions. ``outcomes``: their tables.
    """

    connection: duckdb.DuckDBPyConnection
    parts: Parts
    inputs: Inputs
    tasks: dict[str, Told]
    cut: Cut
    surfaces: tuple[int | str, ...]
    measured: Measured
    outcomes: tuple[Measured, ...]
    say: Say

    @property
    def calendar(self) -> tuple[str, ...]:
        """Calendar columns that the time is fine enough for."""
        return ("hour_of_day",) if self.parts.time.finest < DAY.total_seconds() else ()

    def node(self) -> Call:
        """``Stream``."""
        parts, surface = self.parts, self.parts.surface
        known, numbers, context = self._known_until(), self._numbers(), self._context()
        surfaces: list[Node] = [value if isinstance(value, str) else Plain(repr(value)) for value in self.surfaces]
        rows = rows_for(len(surfaces), 1, 1)
        dtype = str if surface.dtype is str else None
        calendar: list[Node] = list(self.calendar)
        return call(
            "Stream",
            first_slice=Argument(_datetime(self.cut.first), "first_slice", self._why_cut()),
            slice_length=length(self.cut.length),
            time_zone=None if self.cut.zone == "UTC" else self.cut.zone,
            impressions_from=self._impressions_from(),
            until=Argument(_datetime(self.cut.until), "until", "the log ends here: drop it when new rows come"),
            known_until=None if known is None else Argument(_datetime(known), "known_until", KNOWN),
            user=self._column(parts.user, "user"),
            item=self._column(parts.item, "item"),
            surface=Argument(call("Column", name=surface.name, rows=rows, dtype=dtype), "surface", surface.note),
            surfaces=listing(surfaces),
            context=listing(context) if context else None,
            calendar=listing(calendar) if calendar else None,
            numbers=listing(numbers) if numbers else None,
            vectors=listing(self.inputs.vectors) if self.inputs.vectors else None,
            bags=listing(self.inputs.bags) if self.inputs.bags else None,
            weight=self._weight(),
            request=self._request(),
            tasks=listing([self._task(name, told) for name, told in self.tasks.items()]),
        )

    def _why_cut(self) -> str:
        by_utc = (
            "; times that name no zone are taken as UTC, and another zone (--zone) moves first_slice and until along"
        )
        return self.cut.why + (by_utc if self.parts.time.zoneless else "")

    def _impressions_from(self) -> Argument | None:
        at = self.cut.impressions_from
        why = "interactions begin before: models learn from here on"
        return None if at is None else Argument(_datetime(at), "impressions_from", why)

    def _column(self, each: Named, role: str) -> Argument:
        query = f"SELECT count(DISTINCT {quoted(role)}), count(*) FROM {self.measured.table}"
        distinct, seen = self.connection.sql(query).fetchall()[0]
        rows = rows_for(int(distinct), int(seen), self.measured.rows)
        node = call("Column", name=each.name, rows=rows, dtype=str if each.dtype is str else None)
        return Argument(node, role, None if each.origin is not None and each.origin.note else each.note)

    def _numbers(self) -> list[Argument]:
        each = self.parts.propensity
        if each is None:
            return self.inputs.numbers
        self.say("propensity", each.name, POLICY)
        return [*self.inputs.numbers, Argument(call("Number", name=self.parts.names[each.name]), note=POLICY)]

    def _context(self) -> list[Argument]:
        each = self.parts.position
        if each is None:
            return self.inputs.columns
        self.say("position", each.name, f"called so, {each.low:g} to {each.high:g}: {AT_SERVING}")
        rows = rows_for(each.distinct, each.known, each.rows)
        position = Argument(call("Column", name=self.parts.names[each.name], rows=rows), note=AT_SERVING)
        return [position, *self.inputs.columns]

    def _weight(self) -> Argument | None:
        each = self.parts.weight
        if each is None:
            return None
        self.say("weight", each.name, "called so, and above 0: how many impressions a row stands for")
        return Argument(self.parts.names[each.name], "weight", "how many impressions a row stands for")

    def _request(self) -> Argument | None:
        each = self.parts.request
        if each is None:
            return None
        many = each.known / each.distinct
        self.say("request", each.name, f"called so, {many:.1f} rows looked at of one value: what was shown together")
        dtype = int if dtype_of(each) is int else None
        node = call("Request", name=self.parts.names[each.name], dtype=dtype)
        return Argument(node, "request", "what was shown together; models don't read it")

    def _known_until(self) -> datetime | None:
        if not self.outcomes:
            return None
        newest = max(each.newest for each in (self.measured, *self.outcomes))
        known = newest.replace(second=0, microsecond=0) + MINUTE
        return known if known > self.cut.first else None

    def _task(self, name: str, told: Told) -> Argument:
        self.say("task", name, told.why)
        label = None if told.label is None else self.parts.names[told.label.profile.name]
        above, ceiling = (None, None) if told.label is None else (told.label.above, told.label.ceiling)
        node = call("Task", name=name, window=length(told.window), label=label, above=above, ceiling=ceiling)
        return Argument(node, note=told.why)


def _datetime(at: datetime) -> Plain:
    parts = [at.year, at.month, at.day, at.hour, at.minute, at.second]
    while len(parts) > 3 and parts[-1] == 0:
        parts.pop()
    return Plain(f"datetime({', '.join(map(str, parts))}, tzinfo=UTC)")
