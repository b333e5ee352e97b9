"""The harness measures what it says: rooms of made stacks, medians, and an order that interleaves."""

import json
import time
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.harness import interleave, publish
from benchmarks.sampler import Sampler, classify, rooms


@pytest.mark.parametrize(
    ("stack", "room"),
    [
        (["feast.feature_store", "feature_repo.store", "exfm_assets.assets.features", "dagster._core"], "feast"),
        (["torch.nn", "models.learner", "pipeline.training.teacher_walk", "dagster._core"], "training"),
        (["polars.frame", "pipeline.tables", "exfm_assets.assets.stream", "dagster._core"], "i/o"),
        (["polars.frame", "pipeline.transforms.labels", "exfm_assets.assets.stream"], "transforms"),
        (["sqlalchemy.engine", "dagster._core.storage"], "dagster"),
        (["feast", "importlib._bootstrap", "exfm_assets.assets.features"], "imports"),
        (["feastful", "threading"], "other"),
    ],
)
def test_a_stack_belongs_to_its_innermost_known_room(stack: list[str], room: str) -> None:
    assert classify(iter(stack)) == room
    assert room in rooms()


def test_all_wall_time_is_in_some_room() -> None:
    started = time.perf_counter()
    with Sampler() as sampler:
        time.sleep(0.2)
    elapsed = time.perf_counter() - started
    assert sum(sampler.seconds.values()) == pytest.approx(elapsed, abs=0.05)


def test_arms_are_interleaved_and_medians_published(tmp_path: Path) -> None:
    order: list[str] = []

    def arm(name: str, values: list[float]):  # type: ignore[no-untyped-def]
        def run_round(number: int) -> dict[str, float]:
            order.append(name)
            return {"total": values[number]}

        return run_round

    console = Console(file=(tmp_path / "out.txt").open("w"), width=100)
    measured = interleave({"ours": arm("ours", [1, 9, 2]), "peer": arm("peer", [4, 4, 5])}, 3, console)
    assert order == ["ours", "peer"] * 3
    assert (measured.median("ours", "total"), measured.spread("ours", "total")) == (2, 8)
    publish(console, "made", measured, ["total"], tmp_path / "made.json", "ours is twice as fast")
    console.file.flush()
    assert (tmp_path / "out.txt").read_text().strip().splitlines()[-1] == "ours is twice as fast"
    assert json.loads((tmp_path / "made.json").read_text())["rounds"]["peer"][2] == {"total": 5}
