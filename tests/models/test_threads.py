"""Threads: what a user set stays, small steps take one, and neither changes a bit of a small network."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch
from torch import nn

import models.learner
from exfm.state import ROOT
from models.errors import LearningError
from models.optimisers import MOMENTS, Adam
from models.threads import SMALL, SPIN, bound_spin, multiply_adds, threads_for
from tests.models.worlds import TRAINING, learner, slice_tensors


@pytest.fixture
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("user", "after"),
    [
        ({}, {"GOMP_SPINCOUNT": SPIN}),
        ({"GOMP_SPINCOUNT": "7"}, {"GOMP_SPINCOUNT": "7"}),
        ({"OMP_WAIT_POLICY": "active"}, {"OMP_WAIT_POLICY": "active"}),
    ],
)
def test_the_spin_is_bounded_unless_a_user_says_how(user: dict[str, str], after: dict[str, str]) -> None:
    environment = dict(user)
    bound_spin(environment)
    assert environment == after


@pytest.mark.parametrize("package", ["exfm_assets", "benchmarks"])
def test_every_process_of_the_project_bounds_it_before_torch_is_there(package: str) -> None:
    script = "import json, os, sys; print(json.dumps([os.environ.get('GOMP_SPINCOUNT'), 'torch' in sys.modules]))"
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    for user, expected in (({}, SPIN), ({"GOMP_SPINCOUNT": "5"}, "5")):
        done = subprocess.run(
            [sys.executable, "-c", f"import {package}; {script}"],
            cwd=ROOT, env={**bare, **user}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert json.loads(done.stdout) == [expected, False]


@pytest.mark.usefixtures("two_threads")
def test_small_steps_take_one_thread_and_large_ones_all(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    step = models.learner.Learner._step
    monkeypatch.setattr(
        models.learner.Learner, "_step", lambda *given: (seen.append(torch.get_num_threads()), step(*given))[1]
    )
    small = learner(training=TRAINING)
    small.fit(slice_tensors(rows=300), "0")
    assert set(seen) == {1}
    assert torch.get_num_threads() == 2
    seen.clear()
    monkeypatch.setattr("models.threads.SMALL", 0)
    learner(training=TRAINING).fit(slice_tensors(rows=300), "0")
    assert set(seen) == {2}


@pytest.mark.usefixtures("two_threads")
def test_the_threads_are_back_after_an_error() -> None:
    with pytest.raises(LearningError), threads_for(1):
        assert torch.get_num_threads() == 1
        raise LearningError("lost")
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_a_users_own_number_of_threads_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with threads_for(1):
        assert torch.get_num_threads() == 2


def test_work_counts_every_product() -> None:
    network = nn.ModuleDict({"trunk": nn.Linear(1, 1), "attention": nn.Linear(1, 1)})
    network["trunk"].weight = nn.Parameter(torch.zeros(2, 5, 3))
    network["attention"].weight = nn.Parameter(torch.zeros(2, 4, 1))
    assert multiply_adds(network, rows=10, listed=6) == 10 * 2 * 15 + 10 * 6 * 2 * 4
    assert multiply_adds(network, rows=10, listed=0) == 10 * 2 * 15
    assert SMALL > 128 * 2 * (160 * 160 + 160 * 32)  # a student and its control as the projects declare them


@pytest.mark.usefixtures("two_threads")
def test_one_thread_or_two_give_a_small_network_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    single, double = learner(training=TRAINING), learner(training=TRAINING)
    single.fit(slice_tensors(rows=600), "0")
    monkeypatch.setattr("models.threads.SMALL", 0)
    double.fit(slice_tensors(rows=600), "0")
    for mine, other in zip(single.networks.parameters(), double.networks.parameters(), strict=True):
        assert torch.equal(mine, other)
    assert torch.equal(single.table.weight, double.table.weight)


def test_adam_is_torchs_to_the_bit_and_leaves_what_no_loss_reached() -> None:
    torch.manual_seed(0)
    ours, theirs = nn.Bilinear(4, 3, 2), nn.Bilinear(4, 3, 2)
    ours.unused, theirs.unused = (nn.Parameter(torch.ones(3)) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    adam, reference = Adam(ours, 0.01), torch.optim.Adam(theirs.parameters(), lr=0.01, fused=True)
    assert not adam.has_stepped
    for _ in range(6):
        x, y = torch.randn(8, 4), torch.randn(8, 3)
        adam.step(ours(x, y).square().mean())
        reference.zero_grad()
        theirs(x, y).square().mean().backward()
        reference.step()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, other)
    assert torch.equal(ours.unused, torch.ones(3))
    assert adam.has_stepped
    assert set(adam.state()) == {f"{name}.{moment}" for name in ("weight", "bias") for moment in MOMENTS}
    kept = {name: value.clone() for name, value in adam.state().items()}
    again = Adam(ours, 0.01)
    again.load(kept)
    assert all(torch.equal(value, kept[name]) for name, value in again.state().items())
