"""The training benchmark: the peer computes the same network, ratios are of the same round, arms measure something."""

import math

import numpy as np
import pytest
import torch

from benchmarks.gpu import ALONE, SMALL, Company
from benchmarks.harness import Measured
from benchmarks.synthetic import Sizes, synthetic_slice
from benchmarks.training import growth, ratio
from benchmarks.training_arms import Arm, measure
from exfm.learning import Training

SIZES = Sizes(rows=300, ids=2_000, numbers=0)


def test_fuxictr_with_our_weights_gives_our_logits() -> None:
    fuxi = pytest.importorskip("benchmarks.fuxi")
    slice_ = synthetic_slice(SIZES, "cpu")
    (learner,) = ALONE.learners(SMALL, SIZES, 1, Training(precision="fp32"), "cpu")
    learner.fit(slice_, "once")
    peer, state = fuxi.peer(SIZES, SMALL, 0), learner.networks.state_dict()
    with torch.no_grad():
        tables = learner.table.weight[:, 0].split([rows for _, rows in SIZES.id_columns])
        for (name, _), rows in zip(SIZES.id_columns, tables, strict=True):
            peer.embedding_layer.embedding_layer.embedding_layers[name].weight.copy_(rows)
        ours = [name for name in state if name.endswith("weight") and "serving" not in name]
        theirs = [module for module in peer.modules() if isinstance(module, torch.nn.Linear)]
        for name, linear in zip([*ours, "serving.weight"], theirs, strict=True):
            linear.weight.copy_(state[name][0].reshape(linear.in_features, -1).T)
            linear.bias.copy_(state[name.replace("weight", "bias")].flatten())
    probability = fuxi.scores(peer, fuxi.Resident(slice_, 128, None))
    logits = learner.predict(slice_)[:, 0]
    np.testing.assert_allclose(probability, logits.sigmoid().numpy(), rtol=1e-4)


def test_ratios_are_of_the_same_round() -> None:
    rounds = {"a": [{"rows_per_second": r} for r in (10, 100, 30)], "b": [{"rows_per_second": r} for r in (5, 10, 30)]}
    assert ratio(Measured(rounds), "a", "b") == 2  # of 2, 10 and 1; medians apart would say 30 / 10
    assert ratio(Measured(rounds), "b", "b") == 1


def test_a_table_with_more_rows_than_ids_draws_the_same_ids() -> None:
    wide = Sizes(rows=300, ids=2_000, numbers=0, table=50_000)
    assert torch.equal(synthetic_slice(wide, "cpu").ids, synthetic_slice(SIZES, "cpu").ids)
    assert sum(rows for _, rows in wide.id_columns) > 10 * sum(rows for _, rows in SIZES.id_columns)


def test_students_beside_a_control_are_as_many_as_asked() -> None:
    company = Company(students=7, control=True)
    training = Training(batch_size=4_096)
    passes = company.learners(SMALL, SIZES, 1, training, "cpu")
    assert [len(learner.specs) for learner in passes] == [4, 4]  # 8 x 4,096 x 320 floats are more than one cheap block
    assert [len(learner.spec.teachers) for learner in passes] == [0, 1]


@pytest.mark.parametrize(("who", "students"), [("exfm", 1), ("exfm scores", 0)])
def test_an_arm_measures(who: str, students: int) -> None:
    result = measure(Arm(who, network="small", batch=128, rows=1_000, ids=2_000, students=students, test_rows=200))
    assert result["rows_per_second"] > 0 and result["share"] > 0 and result["peak_mb"] > 10
    assert who != "exfm" or 0 < result["auc"] < 1


def test_growth_tables_differ_in_one_thing() -> None:
    for title, arms in growth().items():
        first = next(iter(arms.values()))
        changed = {k for arm in arms.values() for k, v in vars(arm).items() if v != getattr(first, k)}
        assert len(changed) <= 1 or changed == {"students", "control"} or "teacher" in title, (title, changed)
        assert all(math.isfinite(arm.rows) for arm in arms.values())
