"""Learning from a share of the negatives: which rows, by which weight, and what comes of it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from exfm.distillation import AuxiliaryHead, Distillation, KnowledgeDistillation
from exfm.errors import DeclarationError
from exfm.learning import Training
from models.batch import SliceTensors
from models.metrics import calibration, normalised_entropy
from models.sampling import with_fewer_negatives
from tests.models.worlds import TRAINING, learner, slice_tensors

SHARE = 0.2


@pytest.mark.parametrize("is_weighted", [False, True])
def test_positives_stay_and_a_share_of_the_others_stands_for_all(is_weighted: bool) -> None:
    rows = slice_tensors(rows=20_000, tasks=("click", "convert"))
    given = torch.rand(20_000, generator=torch.Generator().manual_seed(1)) + 0.5 if is_weighted else torch.ones(20_000)
    number = torch.arange(20_000.0)[:, None]
    told = replace(rows, numbers=number, weights=given if is_weighted else None)
    kept = with_fewer_negatives(told, SHARE, "0/a")
    chosen = kept.numbers[:, 0].long()
    positive = (rows.labels > 0).any(dim=1)
    assert positive.nonzero().squeeze(1).tolist() == chosen[positive[chosen]].tolist()
    share = (~positive[chosen]).sum() / (~positive).sum()
    assert float(share) == pytest.approx(SHARE, abs=0.01)
    assert kept.weights is not None and told.weights is (given if is_weighted else None)
    torch.testing.assert_close(kept.weights, torch.where(positive, given, given / SHARE)[chosen])
    assert float(kept.weights.sum() / given.sum()) == pytest.approx(1, abs=0.03)
    for name in ("ids", "labels"):
        torch.testing.assert_close(getattr(kept, name), getattr(rows, name)[chosen], equal_nan=True)
    torch.testing.assert_close(kept.teachers["large"], rows.teachers["large"][chosen], equal_nan=True)


def test_the_draw_follows_from_the_order_alone() -> None:
    rows = slice_tensors(rows=1000)
    same, other = (with_fewer_negatives(rows, SHARE, order) for order in ("0/a", "0/b"))
    assert torch.equal(same.ids, with_fewer_negatives(rows, SHARE, "0/a").ids)
    assert len(same) != len(other) or not torch.equal(same.ids, other.ids)
    assert with_fewer_negatives(rows, 1.0, "0/a") is rows


def rare(rows: int, seed: int) -> SliceTensors:
    """Three in a hundred are positive, more of some ids; the teacher knows the logit."""
    draws = torch.Generator().manual_seed(seed)
    told = slice_tensors(rows, seed)
    kinds = torch.randint(12, (rows,), generator=draws)
    logit = -4.2 + 0.25 * kinds.float()
    labels = (torch.rand(rows, generator=draws) < logit.sigmoid()).float()[:, None]
    ids = slice_tensors(rows=12 * 50).ids.unique(dim=0)[kinds % 12]
    return replace(told, ids=ids, labels=labels, teachers={"large": logit[:, None]})


@pytest.mark.parametrize(
    "distillation", [None, KnowledgeDistillation(), AuxiliaryHead()], ids=lambda value: type(value).__name__
)
def test_what_learns_from_a_share_is_calibrated_to_all_rows(distillation: Distillation) -> None:
    judged, found = rare(40_000, 99), {}
    labels = judged.labels[:, 0].numpy()
    for share in (1.0, 0.1):
        model = learner(distillation, replace(TRAINING, batch_size=256, negatives=share))
        reports = [model.fit(rare(20_000, number), f"{number}") for number in range(6)]
        logits = model.predict(judged)[:, 0].numpy()
        found[share] = (normalised_entropy(logits, labels), calibration(logits, labels))
        learnt = np.mean([report.rows for report in reports])
        assert learnt < 4000 if share < 1 else learnt == 20_000
    assert found[1.0][0] < 0.98
    assert found[0.1][0] == pytest.approx(found[1.0][0], abs=0.01)
    assert found[0.1][1] == pytest.approx(1, abs=0.1)  # without weights it would be near 8


@pytest.mark.parametrize("share", [0.0, -0.5, 1.5])
def test_what_is_no_share_is_refused(share: float) -> None:
    with pytest.raises(DeclarationError, match=r"^Training.negatives: .* is not a share of rows: use one in \(0, 1\]"):
        Training(negatives=share)
