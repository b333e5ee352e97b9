"""From the inputs that a model names to columns: of the log, of feature views, made of others.

Belongs here: what a name means, and what all models together read. Not here: encodings (encoding.py), what an input is
(inputs.py, stream.py, the views).
"""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import TYPE_CHECKING

from exfm.columns import Columns, FeatureColumn
from exfm.computed_views import PythonView, SqlView
from exfm.errors import DeclarationError, unique
from exfm.history_views import LAST, HistoryView
from exfm.inputs import Bag, Bucket, Cross, LogInput, Number, Vector
from exfm.learning import Student, Teacher
from exfm.log_columns import Column
from exfm.online import View
from exfm.source_views import SourceView

if TYPE_CHECKING:
    from exfm.project import Project

_KINDS = {
    Column: "ids", Number: "numbers", Vector: "vectors", Bag: "bags", Cross: "derived", Bucket: "derived"
}  # fmt: skip


def declared_inputs(project: "Project") -> dict[str, Column | LogInput]:
    """What is declared of each column of the log, and of views that somebody else keeps, by its name."""
    typed = [view for view in project.feature_views if isinstance(view, SourceView | SqlView | PythonView)]
    return {
        **{column.name: column for column in project.stream.id_columns},
        **{each.name: each for each in project.stream.inputs},
        **{FeatureColumn(view.name, each.name).name: each for view in typed for each in view.inputs},
    }


def is_of_item(project: "Project", column: str) -> bool:
    """Does a column say something of the item alone, so that a network with two towers reads it on the item's side?"""
    item = project.stream.item.name
    if "__" not in column:
        return column in (item, *project.stream.item_inputs)
    return project.view(FeatureColumn.of(column).view).entities == (item,)


def columns_of(project: "Project", inputs: Iterable[str], *, where: str) -> Columns:
    """The columns that a list of inputs names.

    Raises:
        DeclarationError: if an input is neither a column of the log, a feature view nor a ``view:feature``.
    """
    stream = project.stream
    ids = {column.name for column in stream.id_columns}
    of_log = {each.name: each for each in stream.inputs}
    views = {view.name: view for view in project.all_views}
    chosen: dict[str, list[str]] = {
        kind: [] for kind in ("ids", "features", "histories", "sides", "numbers", "vectors", "bags", "derived")
    }
    for name in inputs:
        view_name, colon, feature = name.partition(":")
        if name in ids:
            chosen["ids"].append(name)
        elif name in of_log:
            chosen[_KINDS[type(of_log[name])]].append(name)
        elif view_name in views and (not colon or feature in views[view_name].features):
            view = views[view_name]
            for each in (feature,) if feature else view.features:
                chosen[_kind_of(view, each)].append(FeatureColumn(view_name, each).name)
        else:
            raise DeclarationError(_unknown(project, where, name))
    unique(where, (name for names in chosen.values() for name in names))
    _check_targets(project, where, chosen)
    _check_sides(where, chosen)
    declared = declared_inputs(project)
    chosen["sides"] += [side for name in chosen["bags"] for side in beside_bag(name, declared[name])]
    predicted = {view.name for view in project.prediction_views}
    made = [each for each in stream.made_inputs if each.name in chosen["derived"]]
    parts = (part for each in made for part in ((each.of,) if isinstance(each, Bucket) else each.of))
    return Columns(
        **{kind: tuple(names) for kind, names in chosen.items()},
        of_teachers=tuple(name for name in chosen["features"] if FeatureColumn.of(name).view in predicted),
        parts=tuple(dict.fromkeys(parts)),
    )


def _kind_of(view: View, feature: str) -> str:
    if isinstance(view, SourceView | SqlView | PythonView):
        return _KINDS[type(view.declared(feature))]
    if isinstance(view, HistoryView):
        return "histories" if feature == LAST else "sides"
    return "features"


def beside_bag(name: str, bag: Column | LogInput) -> tuple[str, ...]:
    """The columns that stand beside a bag, of the log or of the bag's view."""
    assert isinstance(bag, Bag)
    view, has_view, _ = name.partition("__")
    return tuple(f"{view}__{each}" for each in bag.beside) if has_view else bag.beside


def _check_sides(where: str, chosen: dict[str, list[str]]) -> None:
    """Refuse what stands beside a history that is no input."""
    for name in chosen["sides"]:
        side = FeatureColumn.of(name)
        if FeatureColumn(side.view, LAST).name not in chosen["histories"]:
            raise DeclarationError(
                f"{where}: '{side.view}:{side.feature}' says something of each id of '{side.view}:{LAST}', which is no "
                f"input: add it, or use {side.view!r}"
            )


def _check_targets(project: "Project", where: str, chosen: dict[str, list[str]]) -> None:
    """Refuse attention without the id that it looks at."""
    for history in chosen["histories"]:
        if (of := project.listed_by(history)) not in chosen["ids"]:
            view_name = FeatureColumn.of(history).view
            raise DeclarationError(
                f"{where}: history {view_name!r} lists {of!r}, which is not an input, so there is no target to "
                f"attend with: add {of!r}"
            )
    declared, item = declared_inputs(project), project.stream.item.name
    for name in chosen["bags"]:
        bag = declared[name]
        assert isinstance(bag, Bag)
        target = bag.target or item
        if bag.pooling == "attention" and FeatureColumn.named(target) not in chosen["ids"]:
            raise DeclarationError(
                f"{where}: bag {name!r} is pooled by attention to {target!r}, which is not an input: add {target!r}"
            )
        if bag.of is not None and FeatureColumn.named(bag.of) not in chosen["ids"]:
            raise DeclarationError(
                f"{where}: bag {name!r} shares the embeddings of {bag.of!r}, which is not an input: add {bag.of!r}"
            )


def _unknown(project: "Project", where: str, name: str) -> str:
    """What an input could have been: of a view that is there, its features; else columns and views."""
    views = {view.name: view for view in project.all_views}
    ids = [column.name for column in (*project.stream.id_columns, *project.stream.inputs)]
    view, colon, feature = name.partition(":")
    if colon and view in views:
        near = get_close_matches(feature, views[view].features, n=1)
        meant = f" (did you mean {near[0]!r}?)" if near else ""
        known = ", ".join(views[view].features)
        return f"{where}: {name!r}: {view!r} has no feature {feature!r}{meant}: use one of {known}"
    near = get_close_matches(view, [*ids, *views], n=1)
    meant = f" (did you mean {near[0]!r}?)" if near else ""
    known = ", ".join([*sorted(ids), *views])
    return f"{where}: {name!r} is not a column or a feature{meant}: use one of {known}, or view:feature"


def logged_columns(project: "Project") -> Columns:
    """Every input of any teacher or student, and the surface, but for those made of a teacher's predictions."""
    stream = project.stream
    models: list[Teacher | Student] = [*project.teachers, *project.students]
    used = [project.columns_of(model.inputs, where=model.name) for model in models]

    def of_any(kind: str, *more: str) -> set[str]:
        return {*more, *(name for columns in used for name in getattr(columns, kind))}

    # A student's rows are found by their surface, whether or not it is an input.
    ids, features, histories = of_any("ids", stream.surface.name), of_any("features"), of_any("histories")
    sides = of_any("sides")
    every = tuple(FeatureColumn(view.name, each).name for view in project.feature_views for each in view.features)
    parts, inputs = of_any("parts"), list(declared_inputs(project))
    return Columns(
        ids=tuple(name for name in inputs if name in ids),
        features=tuple(name for name in every if name in features),
        histories=tuple(name for name in every if name in histories),
        sides=tuple(name for name in (*every, *inputs) if name in sides),
        parts=tuple(name for name in inputs if name in parts),
        **{
            kind: tuple(name for name in inputs if name in used_of_kind)
            for kind in ("numbers", "vectors", "bags", "derived")
            for used_of_kind in (of_any(kind),)
        },
    )
