"""Golden values: what each family and each distillation learns with fixed seeds, to the digits that CPUs share.

A change that is not meant to change learning changes none of them. Whoever changes one says why in the commit, and
writes them anew:

    python -m tests.models.test_golden --write
"""

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import torch

from exfm.distillation import (
    STALENESS,
    SURFACE,
    AuxiliaryHead,
    AuxiliaryTower,
    Distillation,
    KnowledgeDistillation,
    LeadAware,
    Recalibration,
    StudentAdapter,
)
from exfm.learning import Training
from exfm.networks import DLRM, DCNv2, DeepFM, Network, TwoTower, Wukong
from models.batch import SliceTensors
from models.jagged import Jagged
from models.learner import Learner
from models.members import Member
from models.network_spec import NetworkSpec
from tests.models.worlds import slice_tensors

GOLDEN = Path(__file__).with_name("golden.json")
MEANT = "If that was meant, say why in the commit, and: python -m tests.models.test_golden --write"
# Another CPU sums in another order and rounds exponentials otherwise: that moves a float32 by some 1e-7. Over three
# slices it stayed below 1e-6 of losses and 1e-5 of logits with AVX512, AVX2 and neither (ATEN_CPU_CAPABILITY), with
# other kernels of matrix products (MKL_CBWR) and with two threads. Ten times that and more is room for processors like
# none of these, and still far below what a changed knob moves. Not bits: those hold on one machine alone.
LOSSES, LOGITS = 1e-4, 2e-4
# Small batches and large steps: what is learnt decides the logits, not what was drawn.
TRAINING = Training(batch_size=32, learning_rate=1e-2, seed=3)
TASKS = ("click", "buy")
SLICES, SCORED, ROWS = (1, 2, 3), 4, (0, 7, 77, 177, 299)
# Before each slice: leads of the teacher, gains of the student. Shares of 0.3, of 0.5, of what gains prove in part.
MEASURED = (((0.011,), ()), ((0.011, 0.015), ()), ((0.006, 0.007), (0.004, -0.002, 0.006, 0.001, 0.003)))


@dataclass(frozen=True)
class Case:
    """A network and what it learns from, over ``SLICES``.

    Args:
        lead: shares of each slice's distillation from ``MEASURED``; ``None`` gives all.
    """

    network: Network = DCNv2(embedding=4, cross=1, hidden=(8,))
    distillation: Distillation = None
    teachers: tuple[str, ...] = ("large",)
    tasks: tuple[str, ...] = ("click",)
    lead: LeadAware | None = None


def family(network: Network) -> Case:
    return Case(network, tasks=TASKS)


CASES = {
    "DCNv2": family(DCNv2(embedding=4, cross=2, hidden=(8, 4))),
    "DCNv2 with cross_rank": family(DCNv2(embedding=4, cross=2, cross_rank=2, hidden=(8,))),
    "DCNv2 with experts": family(DCNv2(embedding=4, cross=1, hidden=(8,), experts=3)),
    "Wukong": family(Wukong(embedding=4, layers=2, fields=3, rank=2, mixer=8, hidden=(8,))),
    "Wukong with experts": family(Wukong(embedding=4, layers=1, fields=3, rank=2, mixer=8, hidden=(8,), experts=2)),
    "DLRM": family(DLRM(embedding=4, hidden=(8,))),
    "DeepFM": family(DeepFM(embedding=4, hidden=(8,))),
    "TwoTower": family(TwoTower(embedding=4, hidden=(8, 4))),
    "labels only": Case(),
    "knowledge distillation": Case(distillation=KnowledgeDistillation(weight=2.0)),
    "auxiliary head": Case(distillation=AuxiliaryHead(weight=4.0)),
    "auxiliary head, scaled": Case(distillation=AuxiliaryHead(weight=4.0, gradient_scale=0.5, label_scale=1.5)),
    "student adapter": Case(distillation=AuxiliaryHead(weight=4.0, adapter=StudentAdapter(weight=2.0))),
    "student adapter with context": Case(
        distillation=AuxiliaryHead(weight=4.0, adapter=StudentAdapter(context=(STALENESS, SURFACE)))
    ),
    "platt": Case(distillation=AuxiliaryHead(weight=4.0, adapter=Recalibration(kind="platt"))),
    "isotonic": Case(distillation=AuxiliaryHead(weight=4.0, adapter=Recalibration(kind="isotonic", half_life=1.0))),
    "auxiliary tower": Case(distillation=AuxiliaryTower(weight=4.0, gradient_scale=0.5, hidden=6)),
    "two teachers": Case(distillation=AuxiliaryHead(weight=2.0, adapter=StudentAdapter()), teachers=("large", "older")),
    "lead aware": Case(distillation=AuxiliaryHead(weight=4.0), lead=LeadAware()),
}


def golden_slice(seed: int) -> SliceTensors:
    """300 rows whose ids come again in other slices, with two teachers, two histories, a surface and staleness."""
    plain = slice_tensors(seed=seed, tasks=TASKS)
    draws = torch.Generator().manual_seed(1_000 + seed)
    rows = len(plain)
    ids = torch.stack([torch.randint(most, (rows,), generator=draws) for most in (40, 25, 3)], dim=1)
    age = torch.rand(rows, 1, generator=draws) * 4
    older = plain.teachers["large"] * 0.8 + torch.randn(rows, len(TASKS), generator=draws) * 0.3
    return replace(
        plain,
        ids=ids,
        id_names=("user", "item", "surface"),
        numbers=torch.cat([plain.numbers, age], dim=1),
        number_names=("count", "item_age"),
        teachers={**plain.teachers, "older": older},
        histories={"items": lists(ids[:, 1], draws), "surfaces": lists(ids[:, 2], draws)},
        staleness={name: torch.rand(rows, generator=draws) * 24 for name in ("large", "older")},
    )


def lists(column: torch.Tensor, draws: torch.Generator) -> Jagged:
    """A list of up to five of the column's ids for each row."""
    lengths = torch.randint(0, 6, (len(column),), generator=draws)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    return Jagged(column[torch.randint(len(column), (int(offsets[-1]),), generator=draws)], offsets)


def member(case: Case) -> Member:
    towers = isinstance(case.network, TwoTower)
    spec = NetworkSpec(
        ids=(("user", 31), ("item", 23), ("surface", 4)),
        numbers=("count", "item_age"),
        tasks=case.tasks,
        network=case.network,
        histories=(("items", "item"), ("surfaces", "surface")),
        item_ids=("item",) if towers else (),
        item_numbers=("item_age",) if towers else (),
        teachers=case.teachers if case.distillation is not None else (),
    )
    return Member(spec, case.distillation)


def measured(case: Case) -> dict[str, list[float]]:
    """Mean loss of each slice; of the logits on the next one mean and std of each task, and those of ``ROWS``."""
    learner = Learner([member(case)], TRAINING, "cpu")
    losses = []
    for seed, (leads, gains) in zip(SLICES, MEASURED, strict=True):
        share = None if case.lead is None else case.lead.share(leads, gains)
        shares = None if share is None else [dict.fromkeys(case.teachers, share)]
        loss = learner.fit(golden_slice(seed), f"slice {seed}", shares).loss
        assert loss is not None
        losses.append(loss)
    logits = learner.predict(golden_slice(SCORED)).double()  # (N, T)
    return {
        "losses": losses,
        "mean": logits.mean(dim=0).tolist(),
        "std": logits.std(dim=0).tolist(),
        "rows": logits[list(ROWS)].flatten().tolist(),
    }


def as_text(golden: dict[str, dict[str, list[float]]]) -> str:
    """JSON with one list a line; Python writes as many digits as a float64 needs."""
    blocks = [
        f"  {json.dumps(name)}: {{\n"
        + ",\n".join(f"    {json.dumps(field)}: {json.dumps(values)}" for field, values in fields.items())
        + "\n  }"
        for name, fields in golden.items()
    ]
    return "{\n" + ",\n".join(blocks) + "\n}\n"


@pytest.fixture(scope="module")
def golden() -> dict[str, dict[str, list[float]]]:
    values: dict[str, dict[str, list[float]]] = json.loads(GOLDEN.read_text(encoding="utf-8"))
    return values


@pytest.mark.parametrize("name", CASES)
def test_a_change_that_must_not_alter_learning_alters_no_value(
    name: str, golden: dict[str, dict[str, list[float]]]
) -> None:
    assert name in golden, MEANT
    expected, now = golden[name], measured(CASES[name])
    assert now["losses"] == pytest.approx(expected["losses"], rel=LOSSES), MEANT
    for field in ("mean", "std", "rows"):
        assert now[field] == pytest.approx(expected[field], rel=0, abs=LOGITS), MEANT


def test_every_family_and_every_distillation_has_golden_values(golden: dict[str, dict[str, list[float]]]) -> None:
    distillations = [case.distillation for case in CASES.values()]
    adapters = [each.adapter for each in distillations if isinstance(each, AuxiliaryHead)]
    assert {type(case.network) for case in CASES.values()} == set(get_args(Network))
    assert set(map(type, distillations)) == set(get_args(Distillation))
    assert set(map(type, adapters)) == set(get_args(get_type_hints(AuxiliaryHead)["adapter"]))
    assert golden.keys() == CASES.keys(), MEANT


def test_no_two_cases_learn_the_same(golden: dict[str, dict[str, list[float]]]) -> None:
    assert len({tuple(fields["rows"]) for fields in golden.values()}) == len(golden)


def main() -> None:
    parser = argparse.ArgumentParser(description="Golden values of every family and every distillation.")
    parser.add_argument("--write", action="store_true", required=True, help=f"write {GOLDEN.name} anew")
    parser.parse_args()
    GOLDEN.write_text(as_text({name: measured(case) for name, case in CASES.items()}), encoding="utf-8")


if __name__ == "__main__":
    main()
