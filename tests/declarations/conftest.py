"""What is judged by the machine's memory is judged by the same one everywhere."""

import pytest

from exfm import sizes

MEMORY = 24 * 10**9


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "memory", lambda: MEMORY)
