"""The share of a table's rows that a run may quarantine, as it is declared."""

from dataclasses import replace

import pytest

from exfm.declaration import digest
from exfm.errors import DeclarationError
from tests.tiny import tiny_project


@pytest.mark.parametrize("limit", [0, -0.1, 1.5, float("nan")])
def test_a_limit_that_is_no_share_is_refused(limit: float) -> None:
    with pytest.raises(DeclarationError, match="Stream.quarantine_limit: .* is not (a share of rows|finite)"):
        replace(tiny_project().stream, quarantine_limit=limit)


def test_the_limit_left_as_it_is_changes_no_digest() -> None:
    left = replace(tiny_project().stream, quarantine_limit=tiny_project().stream.quarantine_limit)
    assert digest(left) == digest(tiny_project().stream)
    assert digest(replace(tiny_project().stream, quarantine_limit=0.4)) != digest(tiny_project().stream)
