"""The stream of a draft, and all that hangs on it.

Belongs here: from tables and roles to the nodes of a ``Project``. Not here: each guess (roles.py, kinds.py, slices.py).
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import duckdb

from pipeline.drafting.drafted import Draft, Guess
from pipeline.drafting.file_names import Apart, has_words, local_ids, words_apart
from pipeline.drafting.inputs import Inputs, inputs_of
from pipeline.drafting.kinds import dtype_of, rows_for
from pipeline.drafting.log_drafted import (
    Named,
    expression_of,
    files_node,
    joined,
    log_node,
    made,
    named,
    outcome_files,
)
from pipeline.drafting.models_drafted import MOST_STUDENTS, activity, length, students
from pipeline.drafting.naming import TAKEN, identifiers, snake
from pipeline.drafting.roles import (
    Label,
    pattern_of,
    position_of,
    propensity_of,
    request_of,
    surface_of,
    weight_of,
)
from pipeline.drafting.sides_drafted import side_views
from pipeline.drafting.slices import GUESSED, MINUTE, Cut, Delays, Measured, cut_of, delays_of, measure
from pipeline.drafting.syntax import Argument, Call, Node, Plain, call, listing
from pipeline.drafting.tables import Tables
from pipeline.imports.reading import literal, quoted

MOST_NULL = 0.2  # of users or items, above which rows without one are left out by Files.where


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
        """The whole of it."""
        tables, looked = self.tables, self.tables.impressions
        self._names = identifiers(looked.profiles)
        self._roles()
        self._keys()
        self._measure()
        self._inputs()
        views, side_read = self._views()
        log, stream = self._log(), self._stream()
        main = self._main()
        student_inputs = [*self._read(), *side_read, Argument("item_activity")]
        teacher_inputs: list[Argument] = [Argument(Plain("*SEEN_BY_STUDENTS"))]
        if len(self.surfaces) > 1:
            teacher_inputs.append(Argument(self.surface.name))
        teacher_inputs.append(Argument("user_activity"))
        left_out = dict(self.inputs.left_out)
        return Draft(
            self._project_name(), self.folder, "", log, stream, views, student_inputs, teacher_inputs,
            self._teacher_tasks(main), self._students(main), left_out, self.guesses,
            {"interactions": Plain("")} if tables.interactions else {},
        )  # fmt: skip

    def _say(self, what: str, guess: str, why: str) -> None:
        self.guesses.append(Guess(what, guess, why))

    def _project_name(self) -> str:
        made_name = snake(self.name or self.folder.name)
        return f"{made_name}_log" if made_name in ("dagster", "dagster_home", "simulated", "news") else made_name

    def _free(self, name: str, other: str) -> str:
        """A name for a column that is made, if the files have none of that name."""
        return other if name in self._names.values() else name

    def _roles(self) -> None:
        """Columns with a part of their own that hang on no other file."""
        looked, tables = self.tables.impressions, self.tables
        assert looked.moment is not None
        self.time = looked.moment
        self._say(
            "impressions", looked.title, f"about {looked.sample.estimated:,} rows in {len(looked.shape.sources)} files"
        )
        self._say("time", " and ".join(self.time.used), self.time.why)
        id_ = tables.id if tables.id is not None and tables.id.origin.of is not None else None
        self.id = id_
        if id_ is not None:
            self._say("impression id", id_.name, "another value in each row looked at")
        else:
            self._say(
                "impression id", "made", "no column has another value in each row: the file's path and the row's place"
            )
        keys = {*tables.user.names, *tables.item.names, *self.time.used, *([id_.name] if id_ else [])}
        labels = {label.profile.name for label in tables.labels}
        self.request = request_of(looked, keys | labels)
        self.position = position_of(looked)
        self.propensity = propensity_of(looked)
        self.weight = weight_of(looked)
        others = {each.name for each in (self.request, self.position, self.propensity, self.weight) if each is not None}
        self.surface_column = surface_of(looked, keys | labels | others)
        if self.surface_column is not None:
            others.add(self.surface_column.name)
        self._besides = keys | labels | others
        if len(tables.user.names) > 1:
            self._besides -= {*tables.user.names}  # each is also an input of its own

    def _keys(self) -> None:
        """User, item and surface, with what has to be made of them."""
        self.apart = self._surface()
        self.local = self._local_ids()
        self._item()
        self._user()

    def _surface(self) -> Apart | None:
        looked = self.tables.impressions
        sides = [source.name for side in self.tables.sides for source in side.looked.shape.sources]
        places = words_apart([source.name for source in looked.shape.sources], sides)
        if self.surface_column is not None:
            each = self.surface_column
            why = f"{each.name!r} is called so and has {each.distinct} values"
            name = self._names[each.name]
            if each.known < each.rows:
                text = f"({expression_of(each)})::VARCHAR"
                if each.kind == "VARCHAR":
                    nulls = ", ".join(map(literal, looked.nulls))
                    text = f"CASE WHEN {expression_of(each)} NOT IN ({nulls}) THEN {expression_of(each)} END"
                sql = f"coalesce({text}, 'unknown')"
                self.surface = made(name, sql, f"{why}; rows without one are 'unknown'")
            else:
                self.surface = named(name, each, dtype_of(each), why)
        elif places:
            why = f"no column says where an item was shown; names of files differ in {', '.join(places[0].values)}"
            self.surface = made(self._free("surface", "surface_of_file"), places[0].sql, why)
        else:
            why = "no column says where an item was shown, so all is one surface"
            self.surface = made(self._free("surface", "surface_of_all"), "'all'", why)
        for other in places[0 if self.surface_column is not None else 1 :]:
            self._say("not used", "/".join(other.values), "files' names differ in it, which nobody knows at serving")
        return places[0] if places else None

    def _local_ids(self) -> tuple[Apart, str] | None:
        """Are ids of items other items in files of another word? Then what says so."""
        for side in self.tables.sides:
            if self.apart is None or side.of not in self.tables.item.names or not has_words(side.looked, self.apart):
                continue
            other, shared = local_ids(self.connection, side.looked, side.key, self.apart)
            if shared and other > shared / 2:
                return self.apart, (
                    f"{other:,} of {shared:,} ids that files of {' and '.join(self.apart.values)} share say "
                    "something else in each, so ids are of one kind of file only: its word is put before them, here and "
                    "in the side table"
                )
        return None

    def _item(self) -> None:
        each = self.tables.impressions.profiles[self.tables.item.names[0]]
        why = self.tables.item.why
        if self.local is not None:
            apart, said = self.local
            self.item = made(self._names[each.name], f"{apart.sql} || '-' || {expression_of(each)}", said)
            why = f"{why}; {said}"
        else:
            self.item = named(self._names[each.name], each, dtype_of(each), why)
        self._say("item", self.item.name, why)

    def _user(self) -> None:
        looked, user = self.tables.impressions, self.tables.user
        profiles = [looked.profiles[name] for name in user.names]
        if len(profiles) == 1:
            self.user = named(self._names[user.names[0]], profiles[0], dtype_of(profiles[0]), user.why)
        else:
            pattern = pattern_of(user.names, list(looked.profiles))
            self.user = joined(self._free("user", "joined_user"), profiles, pattern, user.why)
        self._say("user", " and ".join(user.names), user.why)
        self._say("surface", self.surface.name, self.surface.note)

    def _measure(self) -> None:
        looked = self.tables.impressions
        keys = {"user": self.user.expression, "item": self.item.expression, "surface": self.surface.expression}
        id_ = None if self.id is None else self.id.name
        self.measured = measure(self.connection, looked, self.time, id_, None, 0, keys)
        self.delays: dict[str, Delays] = {}
        self.outcomes: list[tuple[Call, Measured, str]] = []
        for number, files in enumerate(self.tables.outcomes, 1):
            node, task = outcome_files(files)
            found = measure(self.connection, files.looked, files.looked.moments[0], files.id.name, task, number, {})
            delays = delays_of(self.connection, self.measured, found)
            self.delays |= {name: each for name, each in delays.items() if name in files.tasks}
            self.outcomes.append((node, found, files.why))
            self._say("outcomes", files.looked.title, files.why)
        self.cut: Cut = cut_of(self.measured.first, self.measured.newest)
        part = "" if self.measured.whole else ", as far as was looked"
        self._say("slices", f"{self.cut.count:,}", self.cut.why + part)
        rows = self.connection.sql(
            f"SELECT surface, count(*) FROM {self.measured.table} WHERE surface IS NOT NULL "
            "GROUP BY 1 ORDER BY 2 DESC, 1"
        ).fetchall()
        values = [int(value) if self.surface.dtype is int else str(value) for value, _ in rows if value != ""]
        self.surfaces: tuple[int | str, ...] = tuple(dict.fromkeys(values))

    def _distinct(self, key: str) -> int:
        """Embedding rows of users or items, by how many there are."""
        table = self.measured.table
        found, rows = self.connection.sql(f"SELECT count(DISTINCT {quoted(key)}), count(*) FROM {table}").fetchall()[0]
        return rows_for(int(found), int(rows), self.measured.rows)

    def _inputs(self) -> None:
        besides = {*self._besides}
        self.inputs: Inputs = inputs_of(self.connection, self.tables.impressions, self._names, besides)
        label_names = ", ".join(label.profile.name for label in self.tables.labels)
        if label_names:
            self._say("labels", label_names, "; ".join(label.why for label in self.tables.labels[:4]))
        for said in self.tables.useless:
            self._say("no label", said, "a column that never varies teaches nothing")

    @property
    def _tasks(self) -> dict[str, tuple[timedelta, str, Label | None]]:
        """Name -> window, why, and the label if it is a column."""
        tasks: dict[str, tuple[timedelta, str, Label | None]] = {}
        for label in self.tables.labels:
            name = self._task_name(self._names[label.profile.name])
            why = f"{label.why}; its window is a guess, for the log does not say when it came"
            tasks[name] = (GUESSED, why, label)
        for files in self.tables.outcomes:
            for task in files.tasks:
                if task not in tasks:
                    found = self.delays.get(task)
                    window, why = (found.window, found.why) if found else (GUESSED, "no outcome of it was seen")
                    tasks[task] = (window, why, None)
        return tasks

    @staticmethod
    def _task_name(label: str) -> str:
        return f"{label}_task" if label in TAKEN else label

    def _main(self) -> str:
        tasks = list(self._tasks)
        clicks = [task for task in tasks if task in ("click", "clicks", "clicked", "clk", "is_click")]
        return clicks[0] if clicks else tasks[0]

    def _teacher_tasks(self, main: str) -> tuple[str, ...]:
        """Those whose labels are known soon enough to teach the main task."""
        reach = self._tasks[main][0] + self.cut.length
        late = [task for task, (window, _, _) in self._tasks.items() if window > reach]
        for task in late:
            self._say(
                "no teacher", task, f"its window is longer than a slice and that of {main!r}: the teacher would come "
                "too late for its students; give it a teacher of its own"
            )  # fmt: skip
        return tuple(task for task in self._tasks if task not in late)

    def _students(self, main: str) -> list[Argument]:
        made_students = students(self.surfaces, main, {*self._names.values(), *TAKEN})
        if len(self.surfaces) > MOST_STUDENTS:
            rest = ", ".join(map(str, self.surfaces[MOST_STUDENTS:]))
            self._say("no student", rest, f"only the {MOST_STUDENTS} largest surfaces get one: add them as you need")
        return made_students

    def _read(self) -> list[Argument]:
        """What a student reads of the log."""
        position = [self._names[self.position.name]] if self.position is not None else []
        ids: list[Node] = [self.user.name, self.item.name, *position]
        calendar: list[Node] = ["hour_of_day"] if self.time.finest < 86_400 else []
        return [Argument(each) for each in (*ids, *self.inputs.read, *calendar)]

    def _views(self) -> tuple[list[Argument], list[Argument]]:
        counted = ("interactions", "impressions") if self._interactions() else ("impressions",)
        tasks = tuple(self._tasks)
        views = [
            activity("user_activity", self.user.name, self.cut, tasks, counted, "for the teacher alone: not served"),
            activity("item_activity", self.item.name, self.cut, tasks, counted, "online, so that students read it"),
        ]
        key_names = {self.tables.item.names[0]: self.item.name, **({self.tables.user.names[0]: self.user.name})}
        names = {**self._names, **key_names}
        sides = side_views(self.connection, self.tables, names, {*self._names.values(), self.user.name}, self.local,
                           {each.origin_name for each in self._id_columns()})  # fmt: skip
        for side in sides:
            self._say(side.what, side.title, side.why)
        made_sides = [side for side in sides if side.view is not None]
        return [*views, *(side.view for side in made_sides if side.view)], [Argument(side.name) for side in made_sides]

    def _id_columns(self) -> list["_Key"]:
        """Columns of the log that a side table can be keyed by."""
        used = {*self.inputs.used}
        listed = [
            _Key(name)
            for name, identifier in self._names.items()
            if identifier in used and any(_name_of(each) == identifier for each in self.inputs.columns)
        ]
        return [*listed, *(_Key(name) for name in (*self.tables.user.names, *self.tables.item.names))]

    def _interactions(self) -> bool:
        return bool(self.tables.interactions) and self.local is None and len(self.tables.user.names) == 1

    def _log(self) -> Call:
        looked, tables = self.tables.impressions, self.tables
        roles = [each.origin for each in (self.user, self.item, self.surface) if each.origin is not None]
        others = [
            Argument(call("From", name=self._names[each.name], of=each.origin.of, sql=each.origin.sql))
            for each in (self.position, self.propensity, self.weight, self.request, *(x.profile for x in tables.labels))
            if each is not None and each.origin.of != self._names[each.name]
        ]
        where = self._where()
        id_ = None if self.id is None else str(self.id.origin.of)
        shown = files_node(looked, self.time, [*roles, *others, *self.inputs.froms], id_, where)
        note = f"about {looked.sample.estimated:,} rows"
        if id_ is None:
            note += "; no column has another value in each row, so an impression's id is made of its file and its place"
        outcomes = [Argument(node, note=why) for node, _, why in self.outcomes]
        return log_node(shown, outcomes, self._interaction_files(), note)

    def _interaction_files(self) -> list[Argument]:
        listed = []
        for each, user, item in self.tables.interactions:
            if not self._interactions():
                self._say("not used", each.title, "its users or items are not those of the log, for these are made")
                continue
            origins = [
                Argument(call("From", name=column.name, of=found.origin.of, sql=found.origin.sql))
                for column, found in ((self.user, user), (self.item, item))
                if found.origin.of != column.name
            ]
            self._say("interactions", each.title, "rows with a time, a user and an item, but no label")
            listed.append(Argument(files_node(each, each.moment, origins), note="what users did besides, for features"))
        return listed

    def _where(self) -> str | None:
        """Leave out rows without a user or an item, where they are many."""
        profiles = [
            self.tables.impressions.profiles[name] for name in (*self.tables.user.names, *self.tables.item.names)
        ]
        said = []
        for each in profiles:
            share = 1 - each.known / each.rows
            if share > MOST_NULL:
                column = expression_of(each)
                said.append(f"{column} IS NOT NULL" + (f" AND {column} <> ''" if each.kind == "VARCHAR" else ""))
            if share > 0:
                fate = "left out" if share > MOST_NULL else "kept aside as quarantined"
                self._say("nulls", each.name, f"{share:.1%} of rows have none: they are {fate}")
        return " AND ".join(said) or None

    def _stream(self) -> Call:
        labels = self.tables.labels
        tasks = [self._task(name, *told) for name, told in self._tasks.items()]
        numbers = list(self.inputs.numbers)
        if self.propensity is not None:
            note = "how likely the logging policy was to show it: no model reads it, for it would learn the policy"
            numbers.append(Argument(call("Number", name=self._names[self.propensity.name]), note=note))
            self._say("propensity", self.propensity.name, f"{note}; it is kept beside the log")
        surface_type = str if self.surface.dtype is str else None
        known = self._known_until()
        surfaces: list[Node] = [value if isinstance(value, str) else Plain(repr(value)) for value in self.surfaces]
        context = self._context()
        del labels
        return call(
            "Stream",
            first_slice=Argument(_datetime(self.cut.first), "first_slice", self.cut.why),
            slice_length=length(self.cut.length),
            until=Argument(_datetime(self.cut.until), "until", "the log ends here: drop it when new rows come"),
            known_until=None if known is None else Argument(_datetime(known), "known_until", "the newest outcome"),
            user=self._column(self.user, "user"),
            item=self._column(self.item, "item"),
            surface=Argument(
                call("Column", name=self.surface.name, rows=max(8, rows_for(len(surfaces), 1, 1)), dtype=surface_type),
                "surface", self.surface.note,
            ),
            surfaces=listing(surfaces),
            context=listing(context) if context else None,
            calendar=listing(["hour_of_day"]) if self.time.finest < 86_400 else None,
            numbers=listing(numbers) if numbers else None,
            vectors=listing(self.inputs.vectors) if self.inputs.vectors else None,
            bags=listing(self.inputs.bags) if self.inputs.bags else None,
            weight=self._weight(),
            request=self._request(),
            tasks=listing(tasks),
        )  # fmt: skip

    def _weight(self) -> Argument | None:
        if self.weight is None:
            return None
        self._say("weight", self.weight.name, "called so, and above 0: how many impressions a row stands for")
        return Argument(self._names[self.weight.name], "weight", "how many impressions a row stands for")

    def _request(self) -> Argument | None:
        if self.request is None:
            return None
        each = self.request
        self._say(
            "request",
            each.name,
            f"called so, {each.known / each.distinct:.1f} rows of one value: what was shown together",
        )
        dtype = int if dtype_of(each) is int else None
        return Argument(call("Request", name=self._names[each.name], dtype=dtype), "request", "what was shown together")

    def _context(self) -> list[Argument]:
        columns = list(self.inputs.columns)
        if self.position is not None:
            each = self.position
            note = "an input, if it is known when a student is asked; else drop it from SEEN_BY_STUDENTS"
            rows = rows_for(each.distinct, each.known, each.rows)
            columns.insert(0, Argument(call("Column", name=self._names[each.name], rows=rows), note=note))
            self._say("position", each.name, f"called so, {each.low:g} to {each.high:g}: {note}")
        return columns

    def _column(self, each: Named, role: str) -> Argument:
        dtype = str if each.dtype is str else None
        node = call("Column", name=each.name, rows=self._distinct(role), dtype=dtype)
        return Argument(node, role, None if each.origin is not None and each.origin.note else each.note)

    def _known_until(self) -> datetime | None:
        if not self.outcomes:
            return None
        newest = max(self.measured.newest, *(measured.newest for _, measured, _ in self.outcomes))
        known = newest.replace(second=0, microsecond=0) + MINUTE
        return known if known > self.cut.first else None

    def _task(self, name: str, window: timedelta, why: str, label: Label | None) -> Argument:
        self._say("task", name, why)
        if label is None:
            return Argument(call("Task", name=name, window=length(window)), note=why)
        node = call(
            "Task", name=name, window=length(window), label=self._names[label.profile.name], above=label.above,
            ceiling=label.ceiling,
        )  # fmt: skip
        return Argument(node, note=why)


@dataclass(frozen=True)
class _Key:
    origin_name: str


def _name_of(argument: Argument) -> str:
    assert isinstance(argument.value, Call)
    return str(argument.value.arguments[0].value)


def _datetime(at: datetime) -> Plain:
    parts = [at.year, at.month, at.day, at.hour, at.minute, at.second]
    while len(parts) > 3 and parts[-1] == 0:
        parts.pop()
    return Plain(f"datetime({', '.join(map(str, parts))}, tzinfo=UTC)")
