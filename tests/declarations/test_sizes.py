"""What a model is said to need is what it is made of, and is refused exactly where the machine has less."""

from dataclasses import replace

import pytest
import torch

from exfm import sizes
from exfm.errors import DeclarationError
from exfm.log_columns import Column
from exfm.networks import DLRM, DCNv2, DeepFM, Network, TwoTower, Wukong
from exfm.sizes import Reads, check_model
from models.embedding import EmbeddingTable
from models.network import Networks
from models.network_spec import NetworkSpec
from tests.declarations.base import project, stream, with_student

FIELDS, NUMBERS, TASKS = 6, 30, 2
NETWORKS: list[Network] = [
    DCNv2(embedding=16, cross=3, hidden=(256, 128)),
    DCNv2(embedding=16, cross=2, cross_rank=20, hidden=(256,)),
    DCNv2(embedding=16, cross=1, hidden=(128, 64), experts=4),
    DCNv2(embedding=32, cross=0, hidden=(512, 256, 128)),
    Wukong(embedding=32, layers=3, fields=16, rank=16, mixer=256, hidden=(256, 128), experts=4),
    Wukong(embedding=16, layers=1, fields=8, rank=8, mixer=512, hidden=(64,)),
    DLRM(embedding=32, hidden=(256, 128)),
    DeepFM(embedding=32, hidden=(256, 128)),
    TwoTower(embedding=32, hidden=(256, 128, 64)),
]


@pytest.mark.parametrize("numbers", [0, NUMBERS])
@pytest.mark.parametrize("network", NETWORKS, ids=lambda value: type(value).__name__)
def test_weights_are_counted_as_they_are_built(network: Network, numbers: int) -> None:
    spec = NetworkSpec(
        ids=tuple((f"id{index}", 8) for index in range(FIELDS)), numbers=tuple(f"n{index}" for index in range(numbers)),
        tasks=tuple("ab"), network=network, item_ids=("id0",) if isinstance(network, TwoTower) else (),
    )  # fmt: skip
    with torch.device("cpu"):
        built = sum(parameter.numel() for parameter in Networks(1, spec, 0, {}, {}).parameters())
    counted = network.dense_weights(FIELDS, numbers, TASKS)
    assert counted <= built  # never refused for weights that are not there
    assert counted == pytest.approx(built, rel=0.05)  # biases, norms and heads are left out


def test_a_table_is_counted_as_it_is_built() -> None:
    table = EmbeddingTable([100, 50], 8, 1, torch.Generator())
    built = table.weight.nbytes + table.accumulator.nbytes
    assert built == 4 * 150 * (8 + 1)


def test_a_model_is_refused_exactly_where_memory_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    network, batch = DCNv2(embedding=8, cross=1, hidden=(32,)), 10_000
    width = 2 * 8 + 3
    needs = 4 * 1_000 * 9 + 16 * (width * width + width * 32) + 4 * batch * (2 * width + 32)

    def check() -> None:
        check_model("A", network, batch, Reads(rows=(600, 400), numbers=3, tasks=1))

    monkeypatch.setattr(sizes, "memory", lambda: needs)
    check()
    monkeypatch.setattr(sizes, "memory", lambda: needs - 1)
    with pytest.raises(DeclarationError, match=r"^A\.training: needs 2\.9 MB .* one batch 2\.8 MB"):
        check()
    monkeypatch.setattr(sizes, "memory", lambda: 1_000)
    with pytest.raises(
        DeclarationError, match=r"^A\.network: needs .* use a smaller DCNv2\.embedding, or fewer Column"
    ):
        check()


def test_memory_is_this_machines() -> None:
    with open("/proc/meminfo") as file:
        kilobytes = int(next(line for line in file if line.startswith("MemTotal")).split()[1])
    assert REAL() == pytest.approx(kilobytes * 1024, rel=0.01)


REAL = sizes.memory  # before the fixture


def test_the_bytes_and_what_there_is_are_said() -> None:
    with pytest.raises(DeclarationError) as refused:
        with_student(network=DCNv2(embedding=10**9))
    assert "embedding table 3" in str(refused.value) and "this machine has 24.0 GB" in str(refused.value)


def test_a_column_that_no_model_reads_costs_nothing() -> None:
    wide = stream(context=(*stream().context, Column(name="more", rows=2**40)))
    assert project(stream=wide).stream.context[-1].rows == 2**40
    with pytest.raises(DeclarationError, match=r"^Student\(feed_click\)\.network: needs "):
        read = project().students[0]
        project(stream=wide, students=(replace(read, inputs=(*read.inputs, "more")),))
