"""Imports Feast without the run-time type checks that it compiles into its classes, and without torch.

Belongs here: that import, before any other of Feast in this package. Not here: what Feast is used for.

Feast decorates its declarations with ``typeguard.typechecked``, which parses and compiles their source anew in every
process: more than half of the time that Feast takes to import. What we hand to them is checked already, by pydantic.
Feast also imports torch, for tensors that somebody may ask it for: more than half of what is left. Here torch is
imported when they are asked for, so a process that answers requests never does. A process that imported Feast itself,
as the ``feast`` command does, keeps both.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import typeguard


@contextmanager
def without_checks() -> Iterator[None]:
    """``typeguard.typechecked`` leaves alone what it decorates."""
    checked = typeguard.typechecked
    typeguard.typechecked = _left_alone
    try:
        yield
    finally:
        typeguard.typechecked = checked


def _left_alone(target: Any = None, **options: Any) -> Any:
    """As a decorator, or with options: what makes one."""
    return target if target is not None else _left_alone


class _TorchLater(ModuleType):
    """Stands for ``feast.torch_wrapper``."""

    @property
    def TORCH_AVAILABLE(self) -> bool:
        return find_spec("torch") is not None

    @staticmethod
    def get_torch() -> Any:
        return import_module("torch")


if "feast" not in sys.modules:
    sys.modules.setdefault("feast.torch_wrapper", _TorchLater("feast.torch_wrapper"))
    with without_checks():
        import feast  # noqa: F401
