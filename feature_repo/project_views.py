"""From the declaration to Feast's objects: pure functions.

Belongs here: what is kept, under which names, types and roles. Not here: the registry (store.py), reading (asof/).
"""

import feature_repo.unchecked  # noqa: F401  # isort: skip  # before Feast, which then takes half the time

from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.data_format import ParquetFormat
from feast.types import Array, FeastType, Float32, Int64, String, UnixTimestamp

from exfm.columns import FeatureColumn, ScoreColumns
from exfm.described import described, words_of
from exfm.encoding import Encoding
from exfm.errors import DeclarationError
from exfm.learning import Student, Teacher
from exfm.log_columns import Column
from exfm.names import LOGGED_INPUTS, LOGGED_TEACHER_FEATURES, inputs_service, supervision_service
from exfm.online import View
from exfm.project import Project
from exfm.state import State

IMPRESSION = Column(name="impression_id", rows=2)
ROLE, INPUT, SUPERVISION = "role", "input", "supervision"
_CREATED = "created_timestamp"


@dataclass(frozen=True, kw_only=True)
class Objects:
    """All Feast objects of a project, each kind by name."""

    entities: dict[str, Entity]
    views: dict[str, FeatureView]
    services: dict[str, FeatureService]

    def all(self) -> list[Entity | FeatureView | FeatureService]:
        """Every object, in an order in which they can be applied."""
        return [thing for kind in fields(self) for thing in getattr(self, kind.name).values()]


def objects_of(project: Project, state: State) -> Objects:
    """Project a declaration onto Feast.

    Raises:
        DeclarationError: if a name is used twice, or if supervision could be reached as an input.
    """
    columns = {column.name: column for column in project.stream.id_columns}
    keys = [columns[name] for name in dict.fromkeys(key for view in project.all_views for key in view.entities)]
    owner = ", ".join(project.owners)
    entities = {column.name: _entity(column) for column in [*keys, IMPRESSION]}
    views = [_input_view(view, entities, columns, state) for view in project.all_views]
    views += [_teacher_view(teacher, entities, state) for teacher in project.teachers]
    by_name = {view.name: view for view in views}
    of_all = "What every model reads of an impression, as of it"
    services = [_service(LOGGED_INPUTS, project.logged_columns.of_views, by_name, INPUT, of_all)]
    of_teachers = "What students read of teachers' earlier predictions, as of the impression"
    columns_of_teachers = project.teacher_feature_columns.features
    services.append(_service(LOGGED_TEACHER_FEATURES, columns_of_teachers, by_name, INPUT, of_teachers))
    for student in project.students:
        services += [*_student_services(project, student, by_name)]
    named = {service.name: service for service in services if service is not None}
    objects = Objects(entities=entities, views=by_name, services=named)
    for thing in objects.all():
        thing.owner, thing.tags = owner, {**thing.tags, "project": project.name}
    check_roles(objects.all())
    return objects


def _entity(column: Column) -> Entity:
    kind = ValueType.STRING if column.dtype is str else ValueType.INT64
    words = described(column.name) or f"Column {column.name} of the log"
    return Entity(name=column.name, join_keys=[column.name], value_type=kind, description=words)


def _key_field(column: Column) -> Field:
    return _field(column.name, String if column.dtype is str else Int64)


def _field(name: str, dtype: FeastType, view: View | None = None) -> Field:
    return Field(name=name, dtype=dtype, description=described(name, words_of(view)) or "")


def _feast_type(encoding: Encoding) -> FeastType:
    ids = String if encoding.dtype == "str" else Int64
    types: dict[str, FeastType] = {
        "id": ids, "ids": Array(ids), "ages": Array(Int64), "count": Int64, "number": Float32, "vector": Array(Float32),
    }  # fmt: skip
    return types[encoding.kind]


def _source(name: str, folder: str) -> FileSource:
    return FileSource(
        name=name,
        path=folder,
        file_format=ParquetFormat(),
        timestamp_field="event_timestamp",
        created_timestamp_column=_CREATED,
    )


def _input_view(view: View, entities: dict[str, Entity], columns: dict[str, Column], state: State) -> FeatureView:
    schema = [_key_field(columns[name]) for name in view.entities]
    dtypes = {name: column.dtype for name, column in columns.items()}
    schema += [_field(name, _feast_type(view.encoding(name, dtypes)), view) for name in view.features]
    return FeatureView(
        name=view.name,
        entities=[entities[name] for name in view.entities],
        ttl=view.ttl,
        schema=schema,
        source=_source(view.name, str(state.features(view.name))),
        online=view.online,
        tags={ROLE: INPUT},
        description=view.description,
    )


def _teacher_view(teacher: Teacher, entities: dict[str, Entity], state: State) -> FeatureView:
    schema = [_key_field(IMPRESSION), _field("checkpoint", String), _field("run_id", String)]
    schema.append(_field("trained_until", UnixTimestamp))
    schema += [_field(name, Float32) for name in prediction_features(teacher)]
    return FeatureView(
        name=teacher.view,
        entities=[entities[IMPRESSION.name]],
        ttl=timedelta(0),
        schema=schema,
        source=_source(teacher.view, str(state.predictions(teacher.name))),
        online=False,
        tags={ROLE: SUPERVISION},
        description=(
            f"Predictions of teacher {teacher.name} for every impression, by a checkpoint that had not seen it; "
            "append-only: a slice that is scored again gets newer rows. Supervision, never an input."
        ),
    )


def prediction_features(teacher: Teacher) -> tuple[str, ...]:
    """``<task>_logit`` and ``<task>_probability`` of each task, in the teacher's order."""
    return tuple(name for task in map(ScoreColumns, teacher.tasks) for name in (task.logit, task.probability))


def _student_services(
    project: Project, student: Student, views: dict[str, FeatureView]
) -> Iterable[FeatureService | None]:
    columns = project.columns_of(student.inputs, where=student.name)
    words = f"What student {student.name} reads, training and serving"
    yield _service(inputs_service(student.name), columns.of_views, views, INPUT, words)
    teachers = [teacher for name in student.teachers for teacher in project.line_of(name)]
    names = [
        FeatureColumn(teacher.view, name).name
        for teacher in teachers
        for name in ("checkpoint", "trained_until", *prediction_features(teacher))
    ]
    if names:
        words = f"What student {student.name} learns from beside labels: predictions of {', '.join(student.teachers)}"
        yield _service(supervision_service(student.name), names, views, SUPERVISION, words)


def _service(
    name: str, columns: Iterable[str], views: dict[str, FeatureView], role: str, words: str
) -> FeatureService | None:
    """A service over ``<view>__<feature>`` columns; ``None`` without any, for Feast can't answer for an empty one."""
    chosen: dict[str, list[str]] = {}
    for column in columns:
        of = FeatureColumn.of(column)
        chosen.setdefault(of.view, []).append(of.feature)
    if not chosen:
        return None
    projections = [views[view][features] for view, features in chosen.items()]
    return FeatureService(name=name, features=projections, tags={ROLE: role}, description=words)


def check_roles(objects: Iterable[object]) -> None:
    """Refuse a service of inputs from which a teacher's prediction can be reached.

    Raises:
        DeclarationError: naming the service and the view.
    """
    given = list(objects)
    roles = {thing.name: thing.tags.get(ROLE) for thing in given if isinstance(thing, FeatureView)}
    for service in given:
        if not isinstance(service, FeatureService) or not _is_inputs(service):
            continue
        for projection in service.feature_view_projections:
            if roles.get(projection.name) != INPUT:
                raise DeclarationError(
                    f"FeatureService({service.name}): view {projection.name!r} has role "
                    f"{roles.get(projection.name)!r}, not {INPUT!r}: leave it out, or read it as supervision"
                )


def _is_inputs(service: FeatureService) -> bool:
    logged = service.name in (LOGGED_INPUTS, LOGGED_TEACHER_FEATURES)
    return bool(logged or service.name.endswith("_inputs") or service.tags.get(ROLE) == INPUT)
