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


@pytest.mark.parametrize(
    ("first", "expected"), [("", "unchecked"), pytest.param("import feast", "checked", marks=pytest.mark.slow)]
)
def test_only_where_feast_is_imported_by_us(first: str, expected: str) -> None:
    done = subprocess.run([sys.executable, "-c", LOOK.format(first=first)], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == expected, done.stderr


LATER = """
import sys
import feature_repo.store
assert "torch" not in sys.modules, "imported"
import pandas as pd
from feast.online_response import OnlineResponse
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus, GetOnlineFeaturesResponse
from feast.protos.feast.types.Value_pb2 import Value
answer = GetOnlineFeaturesResponse()
answer.metadata.feature_names.val.append("clicks")
row = answer.results.add()
row.values.append(Value(int64_val=3))
row.statuses.append(FieldStatus.PRESENT)
print(OnlineResponse(answer).to_tensor())
assert "torch" in sys.modules
"""


def test_torch_is_imported_when_tensors_are_asked_for() -> None:
    done = subprocess.run([sys.executable, "-c", LATER], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "tensor([3])" in done.stdout
