"""What a tick asks for as few runs: against a walk that makes one slice of one asset at a time."""

import random
from collections.abc import Set

import dagster as dg
import pytest

from exfm_assets.range_runs import RangeRun, range_runs, riding_along

A, B, C, D = (dg.AssetKey(name) for name in "abcd")
Slices = dict[dg.AssetKey, set[int]]
Parents = dict[dg.AssetKey, list[dg.AssetKey]]
CHAIN: Parents = {A: [], B: [A], C: [B, C]}


class World:
    """What is lacking, and what must not be made though it isn't there; what is made again makes what reads it again.

    Args:
        parents: of each asset; a slice is made of the same slice and those before.
        frozen: slices that stand until something that they are made of is made again, and are not asked for.
    """

    def __init__(self, parents: Parents, lacking: Slices, frozen: Slices | None = None) -> None:
        self.parents, self.lacking, self.frozen = parents, lacking, frozen or {}

    def makes(self, assets: Set[dg.AssetKey], first: int, last: int) -> Slices:
        made: Slices = {}
        for key in (key for key in self.parents if key in assets):
            made[key] = set()
            for at in range(first, last + 1):
                above = any(min(made.get(parent, set()), default=at + 1) <= at for parent in self.parents[key])
                if at in self.lacking.get(key, ()) or (above and at in self.frozen.get(key, ())):
                    made[key].add(at)
        return made

    def runs(self, asked: Slices) -> list[RangeRun]:
        return range_runs(asked, self.makes, self.parents)


def test_a_late_slice_is_one_run() -> None:
    asked = {A: {4}, B: {4, 5}, C: {4, 5, 6}}
    assert World(CHAIN, asked).runs(asked) == [RangeRun(frozenset({A, B, C}), 4, 6)]


EVERY = set(range(9))


def test_what_is_not_asked_for_and_is_not_there_is_left_out() -> None:
    """Labels of the newest slice are open: they are not asked for, nor made by the way."""
    tables = {A: [], B: [A], C: [B], D: [A]}
    asked = {A: {4, 5}, B: {4}, C: {4}, D: {4, 5}}
    runs = World(tables, {key: {4, 5} for key in tables}).runs(asked)
    assert runs == [RangeRun(frozenset(tables), 4, 4)]
    # D of slice 5 hangs on what is made of A in slice 4, and A of 5 on itself: both wait.


def test_what_does_not_hang_on_the_range_before_goes_beside_it() -> None:
    """The everyday: a slice's tables, and the labels and models of the slice before."""
    tables = {A: [], B: [A], C: [B], D: [A, C]}
    asked = {A: {5}, B: {4}, C: {4}, D: {5}}
    assert World(tables, dict.fromkeys(tables, EVERY)).runs(asked) == [
        RangeRun(frozenset({B, C}), 4, 4), RangeRun(frozenset({A}), 5, 5),
    ]  # fmt: skip


def test_what_would_change_only_by_the_run_is_left_out_as_well() -> None:
    """A teacher is trained again from the first slice on, a student on the newest two alone (Upkeep.retrain)."""
    teacher_and_student = {A: [], B: [A, B]}
    asked = {A: {0, 1, 2, 3}, B: {2, 3}}
    assert World(teacher_and_student, asked, {B: {0, 1}}).runs(asked) == [RangeRun(frozenset({A}), 0, 1)]
    left = {A: {2, 3}, B: {2, 3}}
    assert World(teacher_and_student, left, {B: {0, 1}}).runs(left) == [RangeRun(frozenset({A, B}), 2, 3)]


def test_slices_far_apart_are_one_range_where_all_between_stands() -> None:
    asked = {A: {1, 7}}
    assert World({A: []}, asked).runs(asked) == [RangeRun(frozenset({A}), 1, 7)]
    assert World({A: []}, {A: EVERY}).runs(asked) == [RangeRun(frozenset({A}), 1, 1)]


@pytest.mark.parametrize("seed", range(60))
def test_against_a_walk_over_slices(seed: int) -> None:
    """Round by round: nothing else is made, inputs are made first, runs of a round share nothing, and it ends."""
    rng = random.Random(seed)
    keys = [dg.AssetKey(f"asset{number}") for number in range(rng.randint(1, 6))]
    parents = {key: [above for above in keys[: at + 1] if rng.random() < 0.5] for at, key in enumerate(keys)}
    wanted = {key: {at for at in range(8) if rng.random() < 0.4} for key in keys}
    missing = {key: {at for at in range(8) if rng.random() < 0.1} - wanted[key] for key in keys}
    frozen = {key: {at for at in range(8) if rng.random() < 0.1} - wanted[key] - missing[key] for key in keys}
    for _ in range(sum(map(len, wanted.values())) + 1):
        asked = {key: set(indices) for key, indices in wanted.items() if indices}
        if not asked:
            return
        world = World(parents, {key: wanted[key] | missing[key] for key in keys}, frozen)
        runs = world.runs(asked)
        assert runs
        for run in runs:
            others = {key for other in runs if other is not run for key in other.assets}
            before = {key for other in runs if other.first < run.first for key in other.assets}
            assert run.assets.isdisjoint(others)
            assert all(before.isdisjoint(parents[key]) for key in run.assets)
            made = world.makes(run.assets, run.first, run.last)
            assert sum(map(len, made.values()))
            for key in (key for key in keys if key in run.assets):
                assert made[key] <= asked[key]  # nothing that was not asked for
                for at in sorted(made[key]):
                    late = [
                        past for above in parents[key] for past in wanted[above]
                        if past < at or (past == at and above != key)
                    ]  # fmt: skip
                    assert not late  # what it is made of is there
                    wanted[key].remove(at)
    raise AssertionError(f"it never ends: {wanted}")


def test_assets_without_slices_go_with_the_newest_run_that_makes_what_they_are_made_of() -> None:
    """Beside it they would be made of what was there before, and count as made of what came meanwhile."""
    release, gates, registry, mirror = (dg.AssetKey(name) for name in ("release", "gates", "registry", "mirror"))
    above = {release: [A, B], gates: [release], registry: [], mirror: [registry]}
    runs = [RangeRun(frozenset({A}), 0, 0), RangeRun(frozenset({A, B}), 2, 4), RangeRun(frozenset({C}), 6, 6)]
    sent, alone = riding_along(runs, [release, gates, registry, mirror], lambda key: above.get(key, []))
    assert [run.assets for run in sent] == [{A}, {A, B, release, gates}, {C}]
    assert [(run.first, run.last) for run in sent] == [(0, 0), (2, 4), (6, 6)]
    assert alone == {registry, mirror}
    assert riding_along([], [gates], lambda key: above[key]) == ([], {gates})
