"""From a declared teacher or student to the network that a learner builds.

Belongs here: columns, item side, teachers. Not here: the network itself (models/network.py).
"""

from exfm.columns import FeatureColumn
from exfm.encoding import Encoding
from exfm.learning import Student, Teacher
from exfm.project import Project
from models.members import Member
from models.network import NetworkSpec


def member_of(project: Project, model: Teacher | Student, *, control: bool = False) -> Member:
    """What a learner trains: a teacher, a student, or a student's labels-only control."""
    stream = project.stream
    columns = project.columns_of(model.inputs, where=model.name)
    rows = {column.name: column.rows for column in stream.id_columns}
    item = stream.item.name
    towers = model.network.two_sided
    of_items = [view.name for view in project.all_views if view.entities == (item,)]
    is_taught = isinstance(model, Student) and model.is_taught and not control
    spec = NetworkSpec(
        ids=tuple((name, rows[name]) for name in columns.ids),
        numbers=columns.features,
        tasks=model.tasks if isinstance(model, Teacher) else (model.task,),
        network=model.network,
        histories=tuple((name, project.listed_by(name)) for name in columns.histories),
        item_ids=tuple(name for name in columns.ids if towers and name == item),
        item_numbers=tuple(n for n in columns.features if towers and FeatureColumn.of(n).view in of_items),
        teachers=model.teachers if isinstance(model, Student) and is_taught else (),
        surface=stream.surface.name,
    )
    return Member(spec, model.distillation if isinstance(model, Student) and is_taught else None)


def encoder_of(project: Project, model: Teacher | Student) -> dict[str, Encoding]:
    """How the model's inputs are made of columns."""
    return project.encoder(project.columns_of(model.inputs, where=model.name))
