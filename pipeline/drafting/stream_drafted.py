"""A project drafted of tables: each guess in the order in which it depends on others.

Belongs here: from tables to the nodes of a ``Project``. Not here: each guess (parts.py, inputs.py, tasks.py,
slices.py), how a stream is written out (stream_node.py).
"""

from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

import duckdb

from pipeline.drafting.clocks import Clocks, none_soon
from pipeline.drafting.drafted import Draft, Guess
from pipeline.drafting.inputs import Inputs, inputs_of
from pipeline.drafting.leaks import leaks_of
from pipeline.drafting.log_drafted import files_node, log_node, outcome_files, task_of
from pipeline.drafting.models_drafted import MOST_STUDENTS, TIMES, activity, models
from pipeline.drafting.moments import Moment
from pipeline.drafting.naming import TAKEN, identifiers, snake
from pipeline.drafting.parts import Parts, parts_of, without_nulls
from pipeline.drafting.sides_drafted import side_views
from pipeline.drafting.slices import Cut, Delays, Measured, cut_of, delays_of, earlier_by, measure, slices_between
from pipeline.drafting.stream_node import StreamParts
from pipeline.drafting.syntax import Argument, Call, Node, Plain, call
from pipeline.drafting.tables import OutcomeFiles, Tables
from pipeline.drafting.tasks import flag_of, tasks_of
from pipeline.imports.reading import literal, quoted
from pipeline.tables import DataError

MANY = 60  # slices
MOST_BACK = max(TIMES)  # slices that the views of a draft look back
FEWEST_OF_STUDENT = 0.001  # of all rows, below which a surface gets no student
MEND = "Mend this first"
RESERVED = ("dagster", "dagster_home", "simulated", "news")  # folders of the state, projects that come with exfm


@dataclass
class Drafting:
    """Makes a draft of tables.

    Args:
        guesses: what is printed, in order.
    """

    connection: duckdb.DuckDBPyConnection
    tables: Tables
    folder: Path
    name: str | None
    guesses: list[Guess] = field(default_factory=list)

    def draft(self) -> Draft:
        """The whole of it.

        Raises:
            DataError: if a file is damaged, or no row says where it was shown.
        """
        tables, looked = self.tables, self.tables.impressions
        parts = parts_of(self.connection, tables, identifiers(looked.profiles), self._say)
        measured, outcomes, delays, differ = self._measured(parts)
        leaks = self._leaks(parts, [found for _, found, _ in outcomes])
        inputs = inputs_of(self.connection, looked, dict(parts.names), parts.besides, leaks=leaks)
        cut, counted = self._cut(parts, measured), self._surfaces(parts, measured)
        surfaces = tuple(counted)
        tasks = tasks_of(tables, parts.names, delays)
        for said in tables.useless:
            self._say("no label", said, "what never varies teaches nothing")
        stream = StreamParts(
            self.connection, parts, inputs, tasks, cut, surfaces, measured, tuple(found for _, found, _ in outcomes),
            self._say,
        )  # fmt: skip
        log = self._log(parts, inputs, [Argument(node, note=why) for node, _, why in outcomes], differ)
        views, side_inputs = self._views(parts, inputs, cut, tuple(tasks))
        seen = [*self._read(parts, inputs, stream.calendar), *side_inputs, Argument("item_activity")]
        all_seen = self._seen_by_teacher(parts, surfaces)
        return Draft(
            self._project_name(), self.folder, "", log, stream.node(), views, seen, all_seen,
            *models(tasks, cut, self._with_students(counted), {*parts.names.values(), *TAKEN}, self._say),
            inputs.left_out, self.guesses,
        )  # fmt: skip

    def _say(self, what: str, guess: str, why: str) -> None:
        self.guesses.append(Guess(what, guess, why))

    def _project_name(self) -> str:
        made = snake(self.name or self.folder.name)
        return f"{made}_log" if made in RESERVED else made

    def _measured(
        self, parts: Parts
    ) -> tuple[Measured, list[tuple[Call, Measured, str]], dict[str, Delays], str | None]:
        """Times and keys of the impressions, of outcomes, how long these take, and what to do if clocks differ."""
        named = {"user": parts.user, "item": parts.item, "surface": parts.surface}
        keys = {role: each.expression for role, each in named.items()}
        id_ = None if parts.id is None else parts.id.name
        shown = measure(self.connection, self.tables.impressions, parts.time, id_, None, 0, keys)
        delays: dict[str, Delays] = {}
        read: list[tuple[OutcomeFiles, Moment, Measured, list[Clocks]]] = []
        for number, files in enumerate(self.tables.outcomes, 1):
            time = files.looked.outcome_moment
            assert time is not None  # or it would be no table of outcomes
            task = task_of(files)
            found = measure(self.connection, files.looked, time, files.id.name, task, number, {})
            every = delays_of(self.connection, shown, found)
            span = min(shown.first, found.first), max(shown.newest, found.newest)
            read.append((files, time, found, [Clocks(*each, parts.time, time, span) for each in every.items()]))
            delays |= {name: each for name, each in every.items() if name in files.tasks}
            self._say("outcomes", files.looked.title, files.why)
        differ = self._clocks([each for _, _, _, clocks in read for each in clocks])
        outcomes = []
        for files, time, found, clocks in read:
            why = next((differ[each.task] for each in clocks if each.task in differ), None)
            outcomes.append((outcome_files(files, _noted(time, why)), found, files.why))
        return shown, outcomes, delays, next(iter(differ.values()), None)

    def _clocks(self, clocks: list[Clocks]) -> dict[str, str]:
        """Tasks whose clock seems to be another than that of the impressions -> what to do."""
        differ = {each.task: why for each in clocks if (why := each.early()) is not None}
        if not differ and (found := none_soon(clocks)) is not None:
            differ[found[0].task] = found[1]
        for task, why in differ.items():
            self._say("clocks", task, why)
        return differ

    def _leaks(self, parts: Parts, outcomes: list[Measured]) -> dict[str, str]:
        """Columns of the impressions that are known only afterwards -> why it seems so."""
        shown = self.tables.impressions
        labels = {
            label.profile.name: expression
            for label in self.tables.labels
            if label.sure and (expression := flag_of(label)) is not None
        }
        for files, found in zip(self.tables.outcomes, outcomes, strict=True):
            for task in files.tasks if parts.id is not None and found.whole else ():
                ids = f"SELECT id FROM {found.table} WHERE task = {literal(task)}"
                labels[task] = f"({quoted(parts.id.name)})::VARCHAR IN ({ids})"  # type: ignore[union-attr]
        rest = [each for each in shown.profiles.values() if each.name not in parts.besides]
        return leaks_of(self.connection, shown, rest, labels)

    def _cut(self, parts: Parts, measured: Measured) -> Cut:
        cut = cut_of(measured.first, measured.newest, self.tables.impressions.given.zone or "UTC")
        if self._has_interactions(parts):
            cut = self._from_interactions(cut)
        more = "" if measured.whole else ", as far as was looked"
        if cut.count > MANY:
            more += "; begin with fewer: exfm run --range FIRST...LAST"
        self._say("slices", f"{cut.count:,}", cut.why + more)
        if measured.stray:
            self._say(
                "stray",
                f"{measured.stray:,} row{'s' if measured.stray > 1 else ''}",
                "their times lie far from all others: the stream leaves them out",
            )
        return cut

    def _from_interactions(self, cut: Cut) -> Cut:
        """A stream that begins earlier, where interactions do: as far as views of them look back."""
        firsts: dict[str, datetime] = {}
        for number, (each, _, _) in enumerate(self.tables.interactions, len(self.tables.outcomes) + 1):
            assert each.moment is not None  # or it would be no table of interactions
            firsts[each.title] = measure(self.connection, each, each.moment, None, None, number, {}).first
        earlier = earlier_by(cut, min(firsts.values()), MOST_BACK)
        if earlier.impressions_from is not None:
            title = min(firsts, key=lambda title: firsts[title])
            before = slices_between(earlier.first, cut.first, cut.length)
            self._say("interactions", title, (
                f"they begin at {firsts[title]:%Y-%m-%d %H:%M}, before the impressions, so the stream begins "
                f"{before} slices before these: features look back on them"
            ))  # fmt: skip
        return earlier

    def _surfaces(self, parts: Parts, measured: Measured) -> dict[int | str, int]:
        """Its values, those of the most rows first -> rows."""
        rows = self.connection.sql(
            f"SELECT surface, count(*) FROM {measured.table} WHERE surface <> '' GROUP BY 1 ORDER BY count(*) DESC, 1"
        ).fetchall()
        values: dict[int | str, int] = {}
        for value, count in rows:
            surface = int(float(value)) if parts.surface.dtype is int else str(value)
            values[surface] = values.get(surface, 0) + int(count)
        if not values:
            raise DataError(f"{self.tables.impressions.title}: no row has a value of {parts.surface.name!r}")
        return values

    def _with_students(self, counted: dict[int | str, int]) -> tuple[int | str, ...]:
        """Surfaces of which there are enough rows, those of the most first."""
        total = sum(counted.values())
        surfaces = tuple(each for each, rows in counted.items() if rows >= FEWEST_OF_STUDENT * total)
        for each, rows in counted.items():
            if each not in surfaces:
                why = f"{rows:,} row{'s' if rows > 1 else ''} of {total:,}: if it is a mistake, take it out of surfaces"
                self._say("no student", str(each), why)
        if rest := surfaces[MOST_STUDENTS:]:
            why = f"only the {MOST_STUDENTS} largest surfaces get one: add them as you need"
            self._say("no student", ", ".join(map(str, rest)), why)
        return surfaces

    @staticmethod
    def _read(parts: Parts, inputs: Inputs, calendar: tuple[str, ...]) -> list[Argument]:
        """What a student reads of the log."""
        position = [parts.names[parts.position.name]] if parts.position is not None else []
        names: list[Node] = [parts.user.name, parts.item.name, *position, *inputs.read, *calendar]
        return [Argument(each) for each in names]

    @staticmethod
    def _seen_by_teacher(parts: Parts, surfaces: tuple[int | str, ...]) -> list[Argument]:
        where = [Argument(parts.surface.name)] if len(surfaces) > 1 else []
        return [Argument(Plain("*SEEN_BY_STUDENTS")), *where, Argument("user_activity")]

    def _views(
        self, parts: Parts, inputs: Inputs, cut: Cut, tasks: tuple[str, ...]
    ) -> tuple[list[Argument], list[Argument]]:
        """Views of activity and side tables; and how models name the latter."""
        counted = ("interactions", "impressions") if self._has_interactions(parts) else ("impressions",)
        views = [
            activity("user_activity", parts.user.name, cut, tasks, counted, "for the teacher alone: not served"),
            activity("item_activity", parts.item.name, cut, tasks, counted, "online, so that students read it"),
        ]
        user, item = self.tables.user.names[0], self.tables.item.names[0]
        names = {**parts.names, user: parts.user.name, item: parts.item.name}
        declared = {_name_of(each) for each in inputs.columns}
        keys = {name for name, identifier in parts.names.items() if identifier in declared} | {user, item}
        taken = {*parts.names.values(), parts.user.name, parts.surface.name}
        sides = side_views(self.connection, self.tables, names, taken, parts.local, keys)
        for side in sides:
            self._say(side.what, side.title, side.why)
        found = [(side.name, side.view) for side in sides if side.view is not None]
        return [*views, *(view for _, view in found)], [Argument(name) for name, _ in found]

    def _has_interactions(self, parts: Parts) -> bool:
        """Only of users and items that are columns of the files."""
        return bool(self.tables.interactions) and parts.local is None and len(self.tables.user.names) == 1

    def _log(self, parts: Parts, inputs: Inputs, outcomes: list[Argument], differ: str | None) -> Call:
        looked = self.tables.impressions
        roles = [each.origin for each in (parts.user, parts.item, parts.surface) if each.origin is not None]
        labels = [label.profile for label in self.tables.labels]
        others = [
            Argument(call("From", name=parts.names[each.name], of=each.origin.of, sql=each.origin.sql))
            for each in (parts.position, parts.propensity, parts.weight, parts.request, *labels)
            if each is not None and each.origin.of != parts.names[each.name]
        ]
        where = without_nulls(self.tables, self._say)
        id_ = None if parts.id is None else str(parts.id.origin.of)
        shown = files_node(looked, _noted(parts.time, differ), [*roles, *others, *inputs.froms], id_, where)
        note = f"about {looked.sample.estimated:,} rows"
        if id_ is None:
            note += "; no column has another value in each row, so an impression's id is made of its file and its place"
        return log_node(shown, outcomes, self._interactions(parts), note)

    def _interactions(self, parts: Parts) -> list[Argument]:
        listed = []
        for each, user, item in self.tables.interactions:
            if not self._has_interactions(parts):
                self._say("not used", each.title, "its users or items are not those of the log, for these are made")
                continue
            origins = [
                Argument(call("From", name=column.name, of=found.origin.of, sql=found.origin.sql))
                for column, found in ((parts.user, user), (parts.item, item))
                if found.origin.of != column.name
            ]
            self._say("interactions", each.title, "rows with a time, a user and an item, but no label")
            listed.append(Argument(files_node(each, each.moment, origins), note="what users did besides, for features"))
        return listed


def _noted(time: Moment, differ: str | None) -> Moment:
    """A time beside which it stands that clocks differ, and what to do."""
    return time if differ is None else replace(time, why=f"{time.why}. {MEND}: {differ}")


def _name_of(argument: Argument) -> str:
    assert isinstance(argument.value, Call)
    return str(argument.value.arguments[0].value)
