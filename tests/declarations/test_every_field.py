"""One rule covers every field of every declaration: found by introspection, judged by a table of this file's own."""

import importlib
import json
import pkgutil
from collections.abc import Iterator
from dataclasses import Field, fields, is_dataclass, replace
from datetime import UTC, date, datetime, timedelta
from types import NoneType, UnionType
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints

import pytest

import exfm
from exfm.alerts import Alerts
from exfm.columns import Columns, FeatureColumn, ScoreColumns
from exfm.computed_views import PythonView, SqlView
from exfm.declaration import Declaration, adapter, declaration, digest
from exfm.distillation import (
    AuxiliaryHead,
    AuxiliaryTower,
    KnowledgeDistillation,
    LeadAware,
    Recalibration,
    StudentAdapter,
)  # fmt: skip
from exfm.encoding import Encoding
from exfm.errors import DeclarationError
from exfm.fixed_split import FixedSplit, Published, SideTable
from exfm.freshness import Freshness, Limits
from exfm.inputs import Bag, Bucket, Cross, Number, Vector
from exfm.learning import Gate, Succession, Training
from exfm.log_columns import Column, Request
from exfm.log_files import EventTime, Files, From, Log
from exfm.mlflow import MLflow
from exfm.networks import DLRM, DCNv2, DeepFM, TwoTower, Wukong
from exfm.project import Drift, Retention, Upkeep
from exfm.serving import Serving
from exfm.simulation import Event, Simulation
from exfm.sizes import Reads
from exfm.source_views import SourceView
from exfm.state import State
from exfm.stream import Slice
from projects.simulated import PROJECT
from tests.declarations.base import DAY, history, opinion, student, teacher, view

# What is made of declarations: nobody writes one.
RESULTS = {Slice, Columns, Encoding, FeatureColumn, ScoreColumns, State, Reads, Limits}

AGE = Column(name="age", rows=9)
TIME = EventTime(of="ts")
FILES = Files(paths=("a.csv",), time=TIME)
SPLIT = FixedSplit(
    name="mine", train=Files(paths=("a.csv",)), test=Files(paths=("b.csv",)), label="click", columns=(AGE,),
    network=DCNv2(),
    tables=(SideTable(files=Files(paths=("c.csv",)), key="age", inputs=(Vector(name="image", width=2),)),),
)  # fmt: skip
SAMPLES: tuple[Declaration, ...] = (
    PROJECT, PROJECT.stream, PROJECT.stream.user, PROJECT.stream.tasks[0], view(), history(), opinion(), teacher(),
    student(), Training(), Gate(), Freshness(), Drift(), Retention(), Upkeep(), Simulation(), DCNv2(), Wukong(), DLRM(),
    DeepFM(), TwoTower(), KnowledgeDistillation(), AuxiliaryHead(), AuxiliaryTower(), StudentAdapter(), Recalibration(),
    LeadAware(), Serving(), Event(kind="rates", day=1), Succession(teacher="large"), Alerts(), MLflow(),
    Request(name="page"), Number(name="price"), Vector(name="image", width=2), Bag(name="tags", rows=9),
    SqlView(name="mine", entities=("user_id",), inputs=(AGE,), reach=DAY, every=DAY, sql="SELECT"),
    PythonView(name="mine", entities=("user_id",), inputs=(AGE,), reach=DAY, every=DAY, function="a:b"),
    SourceView(name="profile", entities=("user_id",), path="p", inputs=(AGE,)),
    Cross(name="both", of=("user_id", "device"), rows=9), Bucket(name="ranges", of="price", edges=(1.0,)),
    TIME, From(name="user_id", of="userId"), FILES, Log(impressions=(FILES,)),
    SPLIT, SPLIT.tables[0], Published(model="DIN", auc=0.65),
)  # fmt: skip

# Of the log's columns Python types are declared, which nobody reads back.
OF_THE_LOG = {"Project", "Stream", "Column", "Request", "Bag", "SourceView", "SqlView", "PythonView", "FixedSplit"}

NAN = float("nan")
VALUES: dict[str, Any] = {
    "text": "text", "number": 5, "fraction": 2.5, "bool": True, "none": None, "nan": NAN, "inf": float("inf"),
    "-inf": -float("inf"), "huge": 10**30, "bytes": b"text", "list": ["text"], "set": {5}, "dict": {"text": 5},
    "complex": 1j, "object": object(), "class": dict, "date": date(2026, 1, 1), "naive": datetime(2026, 1, 1),
    "long": timedelta.max, "short": timedelta.min, "early": datetime(1, 1, 1, tzinfo=UTC), "function": len,
    "objects": (object(),), "nulls": (None,), "lists": (["text"],),
}  # fmt: skip
ALLOWED: dict[Any, set[str]] = {  # which values a type may take; all others are refused, whatever the field
    str: {"text"}, int: {"number"}, float: {"number", "fraction", "huge"}, bool: {"bool"}, NoneType: {"none"},
}  # fmt: skip


DIGESTS = {
    "EventTime": "e551b223dda0", "Files": "22e627e01a53", "From": "fc41131c2ca3", "Log": "f22cde35cd1a",
    "FixedSplit": "b89cc96846ab", "SideTable": "b0eea5699e10", "Published": "3c03a6d32c0e",
    "Project": "5ead798e84b6", "Stream": "13add94e55e3", "Column": "e7c3696198fd", "Task": "74da9d792e3b",
    "Request": "0a93234410c1",
    "FeatureView": "6e84e73d72a8", "HistoryView": "52ca329a4435", "PredictionView": "1b06382e04d8",
    "Teacher": "60bbdc9f2741", "Student": "fef2320a7f9e", "Training": "14bc83f9f7f1", "Gate": "a1493736c960",
    "Freshness": "bbf57dba039f", "Drift": "be07073a4c14", "Retention": "cb53a32952b4", "Simulation": "7cf91a9bfa3a",
    "DCNv2": "2cd10fefe145", "Wukong": "2af73165f4c0", "DLRM": "d9d81b86b35b", "DeepFM": "771f3a939586",
    "TwoTower": "d4b374ddac69", "KnowledgeDistillation": "d50f0ed7b636", "AuxiliaryHead": "04990ee28fd9",
    "AuxiliaryTower": "fb7980f05d4e", "StudentAdapter": "97c551e9826b", "Recalibration": "0498c961b064",
    "LeadAware": "af5249c5f41f", "Upkeep": "879b580a7e9b", "Event": "f1a040128386",
    "Succession": "e32cb25c098d", "Alerts": "8d28323642db",
    "MLflow": "fa4982d07d91", "Number": "c0538bf017e3", "Vector": "97d13771be56", "Bag": "4082e4061355",
    "Cross": "c0d7d60f37c8", "Bucket": "387495ad9bf5",
    "SourceView": "2cbb93ed52e0", "Serving": "afd20f9dc64f", "SqlView": "f9108d2adeee", "PythonView": "29440d528333",
}  # fmt: skip


def allowed(kind: Any) -> set[str]:
    if get_origin(kind) in (Union, UnionType):
        return set().union(*map(allowed, get_args(kind)))
    return ALLOWED.get(kind, set())


def declarations(parent: type[Declaration] = Declaration) -> Iterator[type[Declaration]]:
    for child in parent.__subclasses__():
        yield child
        yield from declarations(child)


def all_fields() -> list[tuple[Declaration, Field[Any]]]:
    return [(sample, field) for sample in SAMPLES for field in fields(cast(Any, sample)) if field.init]


def test_every_dataclass_of_the_room_is_a_declaration_or_a_known_result() -> None:
    classes = set()
    for module in pkgutil.iter_modules(exfm.__path__):
        room = importlib.import_module(f"exfm.{module.name}")
        classes |= {thing for thing in vars(room).values() if isinstance(thing, type) and is_dataclass(thing)}
    assert classes - RESULTS - {Declaration} == {
        declaration for declaration in declarations() if declaration.__module__.startswith("exfm.")
    }
    assert len(classes) > 20


def test_every_declaration_has_a_sample() -> None:
    public = {
        declaration
        for declaration in declarations()
        if declaration.__module__.startswith("exfm.") and declaration.__name__[0] != "_"
    }
    assert {type(sample) for sample in SAMPLES} == public


@pytest.mark.parametrize(
    ("sample", "field"), all_fields(), ids=lambda value: getattr(value, "name", type(value).__name__)
)
def test_a_field_takes_no_value_of_another_type(sample: Declaration, field: Field[Any]) -> None:
    right = allowed(get_type_hints(type(sample))[field.name])
    for name, value in VALUES.items():
        if name in right:
            continue
        with pytest.raises(DeclarationError) as refused:
            replace(cast(Any, sample), **{field.name: value})
        sentence = str(refused.value)
        assert f".{field.name}: " in sentence and sentence.startswith(type(sample).__name__), (name, sentence)
        assert "\n" not in sentence and ": " in sentence.partition(": ")[2], (name, sentence)


def test_the_table_of_types_knows_every_type_that_a_field_has() -> None:
    known = {timedelta, datetime, *ALLOWED, *(type(sample) for sample in SAMPLES)}
    for sample, field in all_fields():
        for leaf in _leaves(get_type_hints(type(sample))[field.name]):
            assert leaf in known, (sample, field.name, leaf)


def _leaves(kind: Any) -> Iterator[Any]:
    if get_origin(kind) in (Literal, type):
        return  # takes none of the values
    parts = [part for part in get_args(kind) if part is not Ellipsis]
    if not parts:
        yield kind
    for part in parts:
        yield from _leaves(part)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda value: type(value).__name__)
def test_a_field_that_is_not_there_is_named(sample: Declaration) -> None:
    kind = type(sample)
    with pytest.raises(DeclarationError, match=rf"^{kind.__name__}\.colour: is not supported"):
        replace(cast(Any, sample), colour="red")
    with pytest.raises(DeclarationError, match=f"^{kind.__name__}: 5 has no field: write {kind.__name__}"):
        kind(5)  # type: ignore[call-arg]


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda value: type(value).__name__)
def test_a_rule_changes_nothing_that_is_right(sample: Declaration) -> None:
    """Copies, comparison, hashing and digests are a dataclass's own."""
    import copy
    import pickle

    for again in (replace(cast(Any, sample)), copy.deepcopy(sample), pickle.loads(pickle.dumps(sample))):
        assert again == sample and digest(again) == digest(sample)
    assert len({sample, replace(cast(Any, sample))}) == 1


def test_digests_are_what_they_were() -> None:
    """Written down once: an upgrade that changes one of them makes users train a live stream from its first slice."""
    assert {type(sample).__name__: digest(sample) for sample in SAMPLES} == DIGESTS


def test_a_field_that_comes_later_changes_no_digest_of_what_was_declared_before_it() -> None:
    """What an upgrade does: the same declaration of a class that has a field more."""

    def version_of(**more: Any) -> type[Any]:
        body = {"__annotations__": {"name": str, **{name: type(value) for name, value in more.items()}}, **more}
        return declaration(type("Part", (Declaration,), {"__module__": __name__, **body}))

    before, after = version_of(size=4), version_of(size=4, warmup=0, network=DCNv2())
    assert digest(before(name="x")) == digest(after(name="x")) == digest(after(name="x", warmup=0, network=DCNv2()))
    assert digest(before(name="x", size=5)) == digest(after(name="x", size=5)) != digest(before(name="x"))
    assert digest(after(name="x", warmup=1)) != digest(after(name="x"))
    assert digest([{"part": (after(name="x"), 3)}]) == digest([{"part": (before(name="x"), 3)}])


def test_a_part_whose_meaning_changes_changes_only_the_digests_that_it_is_in(monkeypatch: pytest.MonkeyPatch) -> None:
    of_network, of_others = digest(teacher()), digest(PROJECT.stream)
    monkeypatch.setattr(type(teacher().network), "code_version", 2)
    assert digest(teacher()) != of_network
    assert digest(PROJECT.stream) == of_others


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda value: type(value).__name__)
def test_what_is_written_is_read_back_as_what_it_was(sample: Declaration) -> None:
    if type(sample).__name__ in OF_THE_LOG:
        return  # of the log's columns Python types are declared, which nobody reads back
    plain = json.loads(json.dumps(adapter(type(sample)).dump_python(sample, mode="json")))
    assert adapter(type(sample)).validate_python({**plain, "later": 1}, strict=False) == sample


def test_a_part_of_a_users_own_class_is_refused() -> None:
    """Its fields would be in no manifest, and a digest that lacks them would keep old models."""

    @declaration
    class Mine(Training):
        warmup: int = 0

    with pytest.raises(DeclarationError, match=r"^Teacher\(large\)\.training: Mine is a class of your own"):
        replace(PROJECT.teachers[0], training=Mine())


def test_a_rule_of_a_users_own_class_says_its_own_sentence() -> None:
    @declaration
    class Odd(Declaration):
        size: int = 1

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.size % 2 == 0:
                raise ValueError("sizes are odd here")

    with pytest.raises(DeclarationError, match="^Odd: sizes are odd here"):
        Odd(size=2)
