"""Importing Feast without its run-time type checks: in our processes alone, and nothing else is left changed."""

import subprocess
import sys

import pytest

LOOK = """
import typeguard
before = typeguard.typechecked
{first}
import feature_repo.store
import feast
assert typeguard.typechecked is before
try:
    feast.Field(name=1, dtype=2)
    print("unchecked")
except typeguard.TypeCheckError:
    print("checked")
"""


@pytest.mark.parametrize(("first", "expected"), [("", "unchecked"), ("import feast", "checked")])
def test_only_where_feast_is_imported_by_us(first: str, expected: str) -> None:
    done = subprocess.run([sys.executable, "-c", LOOK.format(first=first)], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == expected, done.stderr
