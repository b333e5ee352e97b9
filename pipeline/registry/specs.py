"""From a declared teacher or student to the network that a learner builds.

Belongs here: columns, item side, teachers. Not here: the network itself (models/network.py).
"""

from exfm.columns import Columns, FeatureColumn
from exfm.encoding import Encoding
from exfm.input_columns import declared_inputs, is_of_item
from exfm.inputs import Bag, Bucket, Cross, LogInput, Vector
from exfm.learning import Student, Teacher
from exfm.list_sides import lists_of_sides, side_rows
from exfm.log_columns import Column
from exfm.project import Project
from exfm.stream import Stream
from models.members import Member
from models.network_spec import BagSpec, NetworkSpec, SideSpec


def member_of(project: Project, model: Teacher | Student, *, control: bool = False) -> Member:
    """What a learner trains: a teacher, a student, or a student's labels-only control."""
    stream = project.stream
    columns = project.columns_of(model.inputs, where=model.name)
    declared = declared_inputs(project)
    towers = model.network.two_sided
    is_taught = isinstance(model, Student) and model.is_taught and not control
    spec = NetworkSpec(
        ids=tuple((name, _rows(declared[name])) for name in (*columns.ids, *columns.derived)),
        numbers=columns.features + columns.numbers,
        tasks=model.tasks if isinstance(model, Teacher) else (model.task,),
        network=model.network,
        histories=tuple((name, project.listed_by(name)) for name in columns.histories),
        item_ids=tuple(
            name
            for name in (*columns.ids, *columns.derived, *columns.bags, *columns.vectors)
            if towers and is_of_item(project, name)
        ),
        item_numbers=tuple(
            name for name in (*columns.features, *columns.numbers) if towers and is_of_item(project, name)
        ),
        teachers=model.teachers if isinstance(model, Student) and is_taught else (),
        surface=stream.surface.name,
        bags=tuple(_bag(stream, name, declared[name]) for name in columns.bags),
        vectors=tuple((name, _width(declared[name])) for name in columns.vectors),
        unbounded=columns.numbers,
        quantiles=tuple(_quantiles(declared[name]) for name in columns.derived if _is_running(declared[name])),
        sides=tuple(_side(project, columns, side, of) for side, of in lists_of_sides(project, columns).items()),
    )
    return Member(spec, model.distillation if isinstance(model, Student) and is_taught else None)


def _rows(declared: Column | LogInput) -> int:
    assert isinstance(declared, Column | Cross | Bucket)
    return declared.rows


def _is_running(declared: Column | LogInput) -> bool:
    return isinstance(declared, Bucket) and declared.quantiles is not None


def _quantiles(declared: Column | LogInput) -> tuple[str, int]:
    assert isinstance(declared, Bucket) and declared.quantiles is not None
    return declared.name, declared.quantiles


def _width(declared: Column | LogInput) -> int:
    assert isinstance(declared, Vector)
    return declared.width


def _bag(stream: Stream, name: str, bag: Column | LogInput) -> BagSpec:
    assert isinstance(bag, Bag)
    target = FeatureColumn.named(bag.target or stream.item.name) if bag.pooling == "attention" else None
    of = None if bag.of is None else FeatureColumn.named(bag.of)
    return BagSpec(name=name, of=of, rows=bag.rows or 0, pooling=bag.pooling, target=target)


def _side(project: Project, columns: Columns, name: str, of: str) -> SideSpec:
    """What stands beside a list shares the rows of a column that the network reads anyway, or has its own."""
    shared, rows = side_rows(project, columns, name)
    return SideSpec(name=name, list=of, of=shared, rows=rows)


def encoder_of(project: Project, model: Teacher | Student) -> dict[str, Encoding]:
    """How the model's inputs are made of columns."""
    return project.encoder(project.columns_of(model.inputs, where=model.name))
