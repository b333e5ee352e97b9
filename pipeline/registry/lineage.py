"""What a checkpoint is made of: its declaration, its parent, its data. The digest of that is its version.

Belongs here: versions. Not here: weights (models/checkpoint.py), Dagster's own data versions (assets/common.py).

The same lineage gives the same bits on the same machine (but for rounding, where a model trained beside others), so a
checkpoint whose version is already stored is not trained again: a run that was killed, or is asked for twice, goes on
where it was.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any

from exfm.columns import Columns, FeatureColumn, views_of
from exfm.declaration import canonical_form, digest
from exfm.encoding import DERIVED
from exfm.freshness import Freshness
from exfm.input_columns import declared_inputs
from exfm.inputs import Bag
from exfm.learning import Gate, Student, Teacher
from exfm.list_sides import lists_of_sides, side_rows
from exfm.project import Project
from exfm.serving import Serving
from exfm.stream import PART_ROWS, Slice
from pipeline.registry.growth import has_grown
from pipeline.slices.predictions import scored_by
from pipeline.slices.teaching import teaching
from pipeline.slices.withdrawals import WITHDRAWN, withdrawn
from pipeline.tables import SliceTable
from pipeline.workspace import Workspace

if TYPE_CHECKING:  # it brings torch, which definitions load without
    from models.manifest import Manifest


@dataclass(frozen=True)
class Declared:
    """What a model's checkpoints are made under now.

    Args:
        form: in its canonical form; ``digest``: the name of that.
        warm_start: whether those stand that were made when the model had fewer inputs.
    """

    form: Mapping[str, Any]
    digest: str
    warm_start: bool

    @classmethod
    def of(cls, project: Project, model: Teacher | Student, *, control: bool = False) -> "Declared":
        form = declared_of(project, model, control=control)
        return cls(form, digest(form), model.training.warm_start)

    def holds_for(self, declaration: str, form: Mapping[str, Any]) -> bool:
        """Does a checkpoint that was made under a declaration stand: is it this one, or one that only grew since?"""
        return declaration == self.digest or (self.warm_start and has_grown(form, self.form))


@dataclass(frozen=True)
class Recorded:
    """What a stored checkpoint says of its data.

    Args:
        columns: that it read; ``versions``: by table, the digest of what it read.
    """

    columns: tuple[str, ...]
    versions: Mapping[str, str]

    @classmethod
    def of(cls, manifest: "Manifest") -> "Recorded":
        stored = (name for name, encoding in manifest.encoder.items() if not encoding.is_derived)
        return cls(tuple(stored), manifest.data_versions)

    @classmethod
    def of_plain(cls, manifest: Mapping[str, Any]) -> "Recorded":
        """Of a manifest as plain JSON."""
        encoder: Mapping[str, Mapping[str, Any]] = manifest.get("encoder", {})
        stored = (name for name, encoding in encoder.items() if encoding.get("kind") not in DERIVED)
        return cls(tuple(stored), manifest.get("data_versions") or {})


# What a slice's checkpoint is made of, by table: as a new one names it, or as a stored one does.
Data = Callable[[Recorded | None], Mapping[str, str]]


def declared_of(project: Project, model: Teacher | Student, *, control: bool = False) -> dict[str, Any]:
    """What the model's weights depend on, of all that is declared, in its canonical form.

    Gates, serving, successions, freshness and the end of a closed log are left out: they change what is done with
    weights, not weights. What the code does with a part is in its ``code_version``: that of ``Training`` is of the loop
    itself.
    """
    stream = project.stream
    training = replace(model.training, warm_start=True)  # what stands, not what it is made of
    model = replace(model, freshness=Freshness(), training=training)
    if isinstance(model, Teacher):
        model = replace(model, succeeds=None)
    else:
        model = replace(model, gate=Gate(), serving=Serving())
        if control:
            model = replace(model, distillation=None, teacher=None, lead=None)
    columns = project.columns_of(model.inputs, where=model.name)
    parts = {
        "model": model,
        "training": model.training,  # also at its defaults: for its code_version
        "control": control,
        "views": [project.view(name) for name in views_of(columns.of_views)],
        "ids": stream.id_columns,
        "first_slice": stream.first_slice,
        "slice_length": stream.slice_length,
        "surface": stream.surface.name,
        "surfaces": list(stream.surfaces),
        "tasks": stream.tasks,
    }
    read = {*columns.numbers, *columns.vectors, *columns.bags, *columns.sides, *columns.derived, *columns.parts}
    inputs = [each for each in stream.inputs if each.name in read]
    form = {name: canonical_form(part) for name, part in parts.items()}
    form |= {} if stream.weight is None else {"weight": stream.weight}
    form |= {} if stream.time_zone == "UTC" else {"time_zone": stream.time_zone}
    form |= {} if stream.part_rows == PART_ROWS else {"part_rows": stream.part_rows}  # the order of learning
    # Only where there are any: what was declared before they could be has no such part.
    form |= {"beside": rows} if (rows := _rows_of_views(project, columns)) else {}
    return {**form, "inputs": canonical_form(inputs)} if inputs else form


def _rows_of_views(project: Project, columns: Columns) -> dict[str, int]:
    """Embedding rows of bags beside others whose ids are those of a view's feature that the model does not read."""
    declared = declared_inputs(project)
    bags = {side: declared[side] for side in lists_of_sides(project, columns) if side in declared}
    of_views = [side for side, bag in bags.items() if isinstance(bag, Bag) and bag.of is not None and ":" in bag.of]
    return {side: rows for side in of_views if (rows := side_rows(project, columns, side)[1])}


def declaration_digest(project: Project, model: Teacher | Student, *, control: bool = False) -> str:
    """The name of what the model's weights depend on, of all that is declared."""
    return Declared.of(project, model, control=control).digest


def lineage_version(declaration: str, parent: str | None, data: Mapping[str, str], slice_key: str) -> str:
    """A checkpoint's version: twelve hex digits of everything that it came from."""
    return digest(declaration, parent, dict(sorted(data.items())), slice_key)


def data_of(
    work: Workspace,
    slice_: Slice,
    model: Teacher | Student,
    *,
    supervised: bool,
    stored: Recorded | None = None,
    digest_of: Callable[[SliceTable, Slice], str | None] = SliceTable.digest,
) -> dict[str, str]:
    """Digests of all that a model learns from of a slice; of one that was withdrawn, that it was.

    Args:
        stored: a checkpoint: what it read, and under the names by which it knows it, where they still hold.
        digest_of: a table's slice -> its digest; one that has none is left out.
    """
    kind = "teacher" if isinstance(model, Teacher) else "student"
    if (gone := withdrawn(work, f"{kind}/{model.name}", slice_.key)) is not None:
        return {WITHDRAWN: gone.digest}
    return _read_of(work, slice_, model, supervised=supervised, stored=stored, digest_of=digest_of)


def _read_of(
    work: Workspace,
    slice_: Slice,
    model: Teacher | Student,
    *,
    supervised: bool,
    stored: Recorded | None,
    digest_of: Callable[[SliceTable, Slice], str | None],
) -> dict[str, str]:
    """Digests of all that a model reads of a slice, also to predict."""
    made = stored
    if made is None:
        columns = work.project.columns_of(model.inputs, where=model.name)
        made = Recorded(columns.stored, {})
    data = {}
    for table in (*tables_read(work, made.columns), "labels"):
        if (whole := digest_of(work.table(table), slice_)) is not None:
            names = (whole,) if table == "labels" else known_inputs(work, slice_, made.columns, table)
            data[table] = made.versions[table] if made.versions.get(table) in names else names[0]
    for name in model.teachers if supervised and isinstance(model, Student) else ():
        # The newest file's name says which checkpoint scored which inputs: the same scores, the same digest.
        scored = scored_by(work, teaching(work, name, slice_.index), slice_)
        data[f"predictions/{name}"] = digest([scored] if scored is not None else [])
    return data


def tables_read(work: Workspace, columns: Iterable[str]) -> tuple[str, ...]:
    """The tables of inputs that some columns are of."""
    return ("logged_inputs", *(("logged_teacher_features",) if _of_teachers(work, columns) else ()))


def known_inputs(
    work: Workspace, slice_: Slice, columns: Iterable[str], table: str = "logged_inputs"
) -> tuple[str, ...]:
    """Digests by which what a model reads of a stored slice is known, the one to use first.

    Args:
        columns: its inputs.
    """
    of_teachers = _of_teachers(work, columns)
    read = of_teachers if table != "logged_inputs" else {*columns, work.project.stream.surface.name} - of_teachers
    return work.table(table).known_as(slice_, {"impression_id", "event_timestamp", *read})


def _of_teachers(work: Workspace, columns: Iterable[str]) -> set[str]:
    views = {view.name for view in work.project.prediction_views}
    if not views:
        return set()
    return {name for name in columns if FeatureColumn.of(name).feature and FeatureColumn.of(name).view in views}


def evaluation_names(
    work: Workspace,
    slice_: Slice,
    student: Student,
    versions: Mapping[str, str | None],
    columns: Iterable[str],
    digest_of: Callable[[SliceTable, Slice], str | None] = SliceTable.digest,
) -> list[str]:
    """Digests that an evaluation of a slice has that would be judged alike now, the one for a new one first.

    Args:
        versions: by part, who is judged; none where nobody served.
        columns: that they read.
    """
    judged = Recorded(tuple(columns), {})
    data = _read_of(work, slice_, student, supervised=True, stored=judged, digest_of=digest_of)
    if (request := work.project.stream.request) is not None:
        data["request"] = digest(request, digest_of(work.table("impressions"), slice_))
    names = [digest(student.name, versions, data)]
    # An earlier exfm named whole files, and also those tables that nobody who served read.
    inputs = work.project.columns_of(student.inputs, where=student.name)
    for tables in (tables_read(work, judged.columns), tables_read(work, inputs.of_views)):
        known = [known_inputs(work, slice_, judged.columns, table) for table in tables]
        names += [
            digest(student.name, versions, data | dict(zip(tables, each, strict=True))) for each in product(*known)
        ]
    return list(dict.fromkeys(names))
