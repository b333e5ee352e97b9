"""Arrows between rooms point down (docs/architecture.md): who may import whom, and that there are no circles."""

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAVY = {
    "torch",
    "feast",
    "dagster",
    "polars",
    "duckdb",
    "numpy",
    "pandas",
    "jinja2",
    "vl_convert",
    "mlflow",
    "onnx",
    "onnxruntime",
    "starlette",
    "faiss",
}
# Room -> what it may import of ours, and of the heavy libraries.
ROOMS: dict[str, set[str]] = {
    "exfm": set(),
    "projects": {"exfm"},
    "feast_asof": {"feast", "polars", "duckdb", "numpy", "pandas"},
    "models": {"exfm", "torch", "numpy"},
    "feature_repo": {"exfm", "feast_asof", "feast", "polars", "numpy", "pandas"},
    "pipeline": {
        "exfm", "models", "feature_repo", "feast_asof", "torch", "feast", "polars", "duckdb", "numpy",
        "jinja2", "vl_convert", "mlflow",
    },
    "serving": {"exfm", "models", "feature_repo", "feast_asof", "feast", "numpy", "onnxruntime", "starlette", "faiss"},
    "exfm_assets": {"exfm", "models", "feature_repo", "feast_asof", "pipeline", "serving", "dagster", "polars"},
}  # fmt: skip
# Rooms of the pipeline, lowest first: each imports those before it.
FLOORS = (
    "column_digests", "parts", "sidecar", "tables", "workspace",
    "transforms", "streams", "imports", "sorted_parts", "served",
    "slices", "registry", "releases", "evaluation", "training", "verify",
    "gate", "drift", "upkeep", "studies", "report", "mirror", "bars", "drafting", "live",
)  # fmt: skip


def modules(room: str) -> Iterator[tuple[str, Path]]:
    for path in sorted((ROOT / room).rglob("*.py")):
        yield ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"), path


def imported(path: Path, *, at_top: bool = False) -> set[str]:
    """Names of modules that a file imports, those inside functions too; not those for types alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = {
        id(inner) for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }  # fmt: skip
    names: set[str] = set()
    for node in tree.body if at_top else ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_lies_below_it(room: str) -> None:
    for name, path in modules(room):
        for other in {module.partition(".")[0] for module in imported(path)} & ({*ROOMS} | HEAVY) - {room}:
            assert other in ROOMS[room], f"{name} imports {other}"


def test_serving_takes_of_models_only_how_ids_are_hashed() -> None:
    for name, path in modules("serving"):
        others = {module for module in imported(path) if module.startswith("models")}
        assert others <= {"models.hashing", "models.hashing.stable_hash"}, f"{name} imports {others}"


def test_rooms_of_the_pipeline_import_only_rooms_below_them() -> None:
    for name, path in modules("pipeline"):
        parts = name.split(".")
        if len(parts) == 1:
            continue
        floor = FLOORS.index(parts[1])
        for other in imported(path):
            if other.startswith("pipeline."):
                assert FLOORS.index(other.split(".")[1]) <= floor, f"{name} imports {other}"


@pytest.mark.parametrize("room", ROOMS)
def test_no_module_imports_itself_by_way_of_others(room: str) -> None:
    known = dict(modules(room))
    graph = {name: (imported(path) & known.keys()) - {name} for name, path in known.items()}
    for package in [name for name, path in known.items() if path.name == "__init__.py"]:
        graph = {name: of - {package} for name, of in graph.items()}  # a package's names are its modules'
    tuple(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError


def test_every_module_says_what_belongs_in_it() -> None:
    for room in ROOMS:
        for name, path in modules(room):
            text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
            assert text or not path.read_text(encoding="utf-8").strip(), f"{name} has no docstring"
            if path.name != "__init__.py" and room != "projects":
                assert "Belongs here" in (text or ""), f"{name} does not say what belongs in it"


@pytest.mark.parametrize(("module", "absent"), [
    ("exfm", HEAVY), ("projects.simulated", HEAVY), ("exfm_assets.definitions", {"torch", "feast"}),
    ("models.learner", {"feast", "dagster", "polars", "duckdb", "pandas"}),
    ("pipeline.training.student_walk", {"dagster"}),
    ("serving.command", {"torch", "dagster"}),
])  # fmt: skip
def test_importing_stays_light(module: str, absent: set[str]) -> None:
    loaded = f"import sys, {module}; print(*({{m.partition('.')[0] for m in sys.modules}} & set({sorted(absent)!r})))"
    done = subprocess.run([sys.executable, "-c", loaded], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
