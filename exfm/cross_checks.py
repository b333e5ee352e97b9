"""What must fit between a project's parts: names, references, clocks, sizes.

Belongs here: rules that need more than one part. Not here: a part's own rules (each part checks itself).
"""

from typing import TYPE_CHECKING

from exfm import names
from exfm.bag_checks import check_bags
from exfm.clocks import MOST_SLICES, check_reach
from exfm.columns import FeatureColumn, views_of
from exfm.errors import DeclarationError, at_most, choose_from, unique
from exfm.history_views import HistoryView
from exfm.input_columns import declared_inputs, is_of_item
from exfm.inputs import Bag, Bucket, Cross, Vector
from exfm.learning import Student, Teacher
from exfm.list_sides import lists_of_sides, side_rows
from exfm.log_checks import check_log
from exfm.log_columns import Column
from exfm.online import check_served
from exfm.prediction_views import known_after
from exfm.sizes import Reads, check_model, check_simulation
from exfm.time_zones import DAY

if TYPE_CHECKING:
    from exfm.columns import Columns
    from exfm.project import Project


def check_fit(project: "Project") -> None:
    """Refuse a project whose parts don't fit.

    Raises:
        DeclarationError: for the first that does not.
    """
    _check_names(project)
    _check_stream(project)
    for view in project.feature_views:
        view.check(project.stream)
    check_bags(project)
    for predicted in project.prediction_views:
        predicted.check(project.stream, project.teachers)
    for teacher in project.teachers:
        _check_teacher(project, teacher)
    _check_successions(project)
    for student in project.students:
        _check_student(project, student)


def _check_names(project: "Project") -> None:
    unique("Project.feature_views", (view.name for view in project.feature_views))
    unique("Project.teachers", (teacher.name for teacher in project.teachers))
    unique("Project.students", (student.name for student in project.students))
    unique("Project.prediction_views", (view.name for view in project.all_views))
    if project.name in names.FOLDERS:
        raise DeclarationError(f"Project.name: {project.name!r} is a folder of Dagster's in the state: use another")
    names.feast_objects(
        (each.name for each in (*project.stream.id_columns, *project.stream.inputs)),
        ((type(view).__name__, view.name) for view in project.all_views),
        (teacher.name for teacher in project.teachers),
        (student.name for student in project.students),
    )


def _check_stream(project: "Project") -> None:
    stream = project.stream
    check_reach("Stream.lateness", stream.lateness, stream)
    if project.simulation is not None:
        days = 1.0 if stream.until is None else (stream.until - stream.first_slice) / DAY
        _check_events(project)
        check_simulation(project.simulation, days, stream.slice_length / DAY, len(stream.tasks))
    for task in stream.tasks:
        check_reach(f"Task({task.name}).window", task.window, stream)
    if project.log is not None:
        check_log(project, project.log)


def _check_teacher(project: "Project", teacher: Teacher) -> None:
    where = f"Teacher({teacher.name})"
    for task in teacher.tasks:
        choose_from(f"{where}.tasks", task, project.stream.task_names, what="task")
    for field_name in ("lag", "publish_every"):
        at_most(f"{where}.{field_name}", getattr(teacher, field_name), MOST_SLICES)
    for name in _check_model(project, teacher, len(teacher.tasks)).of_teachers:
        raise DeclarationError(
            f"{where}.inputs: {FeatureColumn.of(name).view!r} is made of a teacher's predictions, so it is there only "
            "after teachers have scored: drop it, students alone can read it"
        )


def _check_successions(project: "Project") -> None:
    """Refuse a teacher that can't teach those whom it would take over."""
    taken: dict[str, str] = {}
    for teacher in project.teachers:
        if teacher.succeeds is None:
            continue
        where, other = f"Teacher({teacher.name}).succeeds", teacher.succeeds.teacher
        choose_from(where, other, (each.name for each in project.teachers if each != teacher), what="teacher")
        if other in taken:
            raise DeclarationError(
                f"{where}: {other!r} is succeeded by {taken[other]!r} already: let this one succeed {taken[other]!r}"
            )
        taken[other] = teacher.name
        if lacking := [task for task in project.teacher(other).tasks if task not in teacher.tasks]:
            raise DeclarationError(
                f"{where}: {other!r} predicts {lacking[0]!r} and this one does not: add it to its tasks"
            )
    for teacher in project.teachers:
        before = teacher
        for _ in project.teachers:
            if before.succeeds is None:
                break
            before = project.teacher(before.succeeds.teacher)
            if before == teacher:
                raise DeclarationError(
                    f"Teacher({teacher.name}).succeeds: it would succeed itself in the end: drop one succession"
                )


def _check_student(project: "Project", student: Student) -> None:
    where = f"Student({student.name})"
    choose_from(f"{where}.task", student.task, project.stream.task_names, what="task")
    if student.surface is not None:
        choose_from(f"{where}.surface", student.surface, project.stream.surfaces, what="surface")
    for teacher in student.teachers:
        choose_from(f"{where}.teacher", teacher, (t.name for t in project.teachers), what="teacher")
        tasks = project.teacher(teacher).tasks
        if student.task not in tasks:
            raise DeclarationError(
                f"{where}.teacher: {teacher!r} does not predict {student.task!r}: add it to its tasks {tasks}"
            )
        for each in project.line_of(teacher):
            _check_in_time(project, student, each)
        if shared := {each.name for each in project.line_of(teacher)[1:]} & {*student.teachers}:
            raise DeclarationError(
                f"{where}.teacher: {min(shared)!r} succeeds {teacher!r}, so it would teach twice: name one of them"
            )
    _check_shadow(project, student)
    columns = _check_model(project, student, 1)
    for name in views_of(columns.of_views):
        check_served(f"{where}.inputs", project.view(name), project.stream)


def _check_shadow(project: "Project", student: Student) -> None:
    """Refuse a shadow whose scores would say nothing of this student's requests."""
    where, name = f"Student({student.name}).serving.shadow", student.serving.shadow
    if name is None:
        return
    choose_from(where, name, (each.name for each in project.students if each != student), what="other student")
    shadow = project.student(name)
    if shadow.task != student.task:
        raise DeclarationError(
            f"{where}: {name!r} predicts {shadow.task!r} and not {student.task!r}, so nothing could be compared: "
            "name a student of the same task"
        )
    if shadow.surface not in (None, student.surface):
        raise DeclarationError(
            f"{where}: {name!r} is of surface {shadow.surface!r} and not of {student.surface!r}: name one of the same "
            "surface, or of all"
        )


def _check_model(project: "Project", model: Teacher | Student, tasks: int) -> "Columns":
    """Refuse inputs that the network can't read, and sizes that the machine can't hold."""
    where = f"{type(model).__name__}({model.name})"
    columns = project.columns_of(model.inputs, where=f"{where}.inputs")
    _check_network(project, where, model, columns)
    declared = declared_inputs(project)
    read = [declared[name] for name in (*columns.ids, *columns.derived, *columns.bags, *columns.vectors)]
    bags = [each for each in read if isinstance(each, Bag)]
    lengths = {name: _length(project, name) for name in (*columns.histories, *columns.bags)}
    sides = lists_of_sides(project, columns)
    check_model(
        where,
        model.network,
        model.training.batch_size,
        Reads(
            rows=tuple(each.rows for each in read if isinstance(each, Column | Cross | Bucket)),
            numbers=len(columns.features) + len(columns.numbers),
            tasks=tasks,
            lengths=tuple(lengths.values()),
            bag_rows=(
                *(bag.rows for bag in bags if bag.rows is not None),
                *(side_rows(project, columns, side)[1] for side in sides),
            ),
            vectors=tuple(each.width for each in read if isinstance(each, Vector)),
            sides=tuple(lengths[of] for of in sides.values()),
        ),
        model.distillation if isinstance(model, Student) else None,
    )
    return columns


def _length(project: "Project", listed: str) -> int:
    """How many ids a history or a bag lists at most."""
    declared = declared_inputs(project).get(listed) or project.view(FeatureColumn.of(listed).view)
    assert isinstance(declared, Bag | HistoryView)
    return declared.length


def _check_network(project: "Project", where: str, model: Teacher | Student, columns: "Columns") -> None:
    """Refuse a network that its inputs leave without an input, or make larger by what should make it smaller."""
    network, item = model.network, project.stream.item.name
    if network.two_sided:
        family = type(network).__name__
        of_items = {view.name for view in project.all_views if view.entities == (item,)}
        others = [name for name in columns.features if FeatureColumn.of(name).view not in of_items]
        others += [name for name in _beside(columns) if not is_of_item(project, name)]
        _check_sides(project, where, family, columns)
        if item not in columns.ids:
            raise DeclarationError(f"{where}.inputs: {model.inputs} leave a {family}'s item side empty: add {item!r}")
        if not (len(columns.ids) > 1 or columns.histories or others):
            raise DeclarationError(
                f"{where}.inputs: {model.inputs} leave a {family}'s request side empty: "
                f"add {project.stream.user.name!r}"
            )
    fields = (*columns.ids, *columns.histories, *columns.bags, *columns.vectors, *columns.derived)
    network.check_width(
        f"{where}.network", len(fields) * network.embedding + len(columns.features) + len(columns.numbers)
    )


def _beside(columns: "Columns") -> tuple[str, ...]:
    return (*columns.numbers, *columns.bags, *columns.vectors, *columns.derived)


def _check_sides(project: "Project", where: str, family: str, columns: "Columns") -> None:
    """Refuse what would look at both sides of a network with two towers, which meet only at its end."""
    item = project.stream.item.name
    for cross in project.stream.crosses:
        if cross.name in columns.derived and item in cross.of:
            raise DeclarationError(
                f"{where}.inputs: cross {cross.name!r} is of {item!r} and others, and a {family} keeps the item apart: "
                "drop it, or use another network"
            )
    for name, bag in declared_inputs(project).items():
        if name in columns.bags and isinstance(bag, Bag) and bag.pooling == "attention":
            raise DeclarationError(
                f"{where}.inputs: bag {name!r} is pooled by attention to {bag.target or item!r}, and a {family} keeps "
                "the item apart: pool it by mean or sum, or use another network"
            )


def _check_in_time(project: "Project", student: Student, teacher: Teacher) -> None:
    """A student that waited for its teacher would be staler than its control, and served later."""
    after, window = known_after(teacher, project.stream), project.stream.task(student.task).window
    if after > window:
        lag = -(-(after - window) // project.stream.slice_length) + teacher.lag
        longest = max(project.stream.task(task).window for task in teacher.tasks)
        raise DeclarationError(
            f"Student({student.name}).teacher: predictions of {teacher.name!r} are there {after} after a slice's "
            f"end (its longest window, {longest}, less lag={teacher.lag} slice{'s' if teacher.lag > 1 else ''}), later "
            f"than labels of {student.task!r} ({window}): declare a teacher of {student.task!r} and shorter tasks "
            f"alone, or give Teacher({teacher.name}) lag={lag}, by which it scores with an older checkpoint"
        )


def _check_events(project: "Project") -> None:
    """Refuse events of columns and surfaces that the stream does not have."""
    assert project.simulation is not None
    columns = [column.name for column in project.stream.context]
    for event in project.simulation.events:
        if event.kind in ("null", "stuck"):
            choose_from(f"Event({event.kind}).of", event.of, columns, what="context column")
        elif event.kind == "surface" or (event.kind in ("rates", "flipped") and event.of is not None):
            choose_from(f"Event({event.kind}).of", event.of, project.stream.surfaces, what="surface")
