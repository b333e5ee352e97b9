"""Imports Feast without the run-time type checks that it compiles into its classes.

Belongs here: that import, before any other of Feast in this package. Not here: what Feast is used for.

Feast decorates its declarations with ``typeguard.typechecked``, which parses and compiles their source anew in every
process: more than half of the time that Feast takes to import. What we hand to them is checked already, by pydantic.
A process that imported Feast itself, as the ``feast`` command does, keeps its checks.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
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


if "feast" not in sys.modules:
    with without_checks():
        import feast  # noqa: F401
