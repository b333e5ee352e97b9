"""Small networks and slices that the tests of this room share."""

import torch

from exfm.distillation import Distillation
from exfm.learning import Training
from exfm.networks import DCNv2
from models.batch import SliceTensors
from models.learner import Learner
from models.network_spec import NetworkSpec

TRAINING = Training(batch_size=64, seed=3)


def spec(distillation: Distillation = None, **changes: object) -> NetworkSpec:
    fields: dict[str, object] = {
        "ids": (("user", 97), ("item", 31)),
        "numbers": ("count",),
        "tasks": ("click",),
        "network": DCNv2(embedding=4, cross=1, hidden=(8,)),
        "teachers": ("large",) if distillation is not None else (),
    }
    return NetworkSpec(**{**fields, **changes})  # type: ignore[arg-type]


def learner(distillation: Distillation = None, training: Training = TRAINING, **changes: object) -> Learner:
    return Learner.create(spec(distillation, **changes), training, distillation, "cpu")


def slice_tensors(rows: int = 300, seed: int = 0, tasks: tuple[str, ...] = ("click",)) -> SliceTensors:
    """A slice with some unknown labels, missing numbers and rows that the teacher left out."""
    draws = torch.Generator().manual_seed(seed)

    def holes(tensor: torch.Tensor, share: float) -> torch.Tensor:
        return tensor.masked_fill(torch.rand(tensor.shape, generator=draws) < share, torch.nan)

    return SliceTensors(
        ids=torch.randint(-(2**62), 2**62, (12, 2), generator=draws)[torch.randint(12, (rows,), generator=draws)],
        numbers=holes(torch.randn(rows, 1, generator=draws) * 3 + 5, 0.1),
        labels=holes((torch.rand(rows, len(tasks), generator=draws) < 0.3).float(), 0.1),
        id_names=("user", "item"),
        number_names=("count",),
        task_names=tasks,
        teachers={"large": holes(torch.randn(rows, len(tasks), generator=draws) - 1, 0.2)},
    )
