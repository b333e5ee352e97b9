"""From a declared teacher or student to the network that a learner builds.

Belongs here: columns, item side, teachers. Not here: the network itself (models/network.py).
"""

from exfm.columns import FeatureColumn
from exfm.encoding import Encoding
from exfm.learning import Student, Teacher
from exfm.project import Project
from models.members import Member
from models.network import BagSpec, NetworkSpec


def member_of(project: Project, model: Teacher | Student, *, control: bool = False) -> Member:
    """What a learner trains: a teacher, a student, or a student's labels-only control."""
    stream = project.stream
    columns = project.columns_of(model.inputs, where=model.name)
    rows = {column.name: column.rows for column in stream.id_columns}
    rows |= {made.name: made.rows for made in stream.made_inputs}
    item = stream.item.name
    towers = model.network.two_sided
    of_item, widths = {item, *stream.item_inputs}, {vector.name: vector.width for vector in stream.vectors}
    of_items = [view.name for view in project.all_views if view.entities == (item,)]
    is_taught = isinstance(model, Student) and model.is_taught and not control
    spec = NetworkSpec(
        ids=tuple((name, rows[name]) for name in (*columns.ids, *columns.derived)),
        numbers=columns.features + columns.numbers,
        tasks=model.tasks if isinstance(model, Teacher) else (model.task,),
        network=model.network,
        histories=tuple((name, project.listed_by(name)) for name in columns.histories),
        item_ids=tuple(
            name
            for name in (*columns.ids, *columns.derived, *columns.bags, *columns.vectors)
            if towers and name in of_item
        ),
        item_numbers=tuple(
            name
            for name in (*columns.features, *columns.numbers)
            if towers and (FeatureColumn.of(name).view in of_items or name in of_item)
        ),
        teachers=model.teachers if isinstance(model, Student) and is_taught else (),
        surface=stream.surface.name,
        bags=tuple(_bag(project, name) for name in columns.bags),
        vectors=tuple((name, widths[name]) for name in columns.vectors),
    )
    return Member(spec, model.distillation if isinstance(model, Student) and is_taught else None)


def _bag(project: Project, name: str) -> BagSpec:
    bag = next(each for each in project.stream.bags if each.name == name)
    target = project.stream.item.name if bag.pooling == "attention" else None
    return BagSpec(name=name, of=bag.of, rows=bag.rows or 0, pooling=bag.pooling, target=target)


def encoder_of(project: Project, model: Teacher | Student) -> dict[str, Encoding]:
    """How the model's inputs are made of columns."""
    return project.encoder(project.columns_of(model.inputs, where=model.name))
