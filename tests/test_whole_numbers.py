"""A whole number as a text: those written plainly are read by a cast, and no other form is read as another number."""

import duckdb
import pytest

from pipeline.imports.values import whole_number


@pytest.mark.parametrize(("text", "number"), [
    ("5", 5), ("+5", 5), (" 5 ", 5), ("007", 7), ("2.0", 2), ("5.", 5), ("-3", -3), ("-0", 0), ("1.5", None),
    ("", None), ("x", None), (None, None), ("1e3", None), ("1_000", None), ("0x1f", None), ("true", None),
    ("9223372036854775807", 2**63 - 1), ("9223372036854775808", -(2**63)), ("18446744073709551615", -1),
    ("-9223372036854775808", -(2**63)), ("99999999999999999999", None),
])  # fmt: skip
def test_forms(text: str | None, number: int | None) -> None:
    with duckdb.connect() as connection:
        assert connection.execute(f"SELECT {whole_number('$1::VARCHAR', 'VARCHAR')}", [text]).fetchone() == (number,)
