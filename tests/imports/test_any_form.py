"""What is fast for usual texts says the same as what is right for any text."""

import random
from collections.abc import Iterator

import duckdb
import polars as pl
import pytest

from exfm.log_files import EventTime
from pipeline.imports.values import moment, scalar, whole_number, why
from pipeline.streams.contract import LABEL, NO_LABEL

DAY = "[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}"
CLOCK = "([T ][0-9]{1,2}:[0-9]{2}(:[0-9]{2}(\\.[0-9]*)?)?)?"
ZONED = f"{DAY}{CLOCK} ?([zZ]|UTC|[+-](0[0-9]|1[0-5])(:?[0-5][0-9])?)"
# Each rule as it is meant, in one way for all texts.
NUMBER = (
    "coalesce(try_cast(trim(v) AS DOUBLE), CASE lower(trim(v)) WHEN 'true' THEN 1.0 WHEN 'false' THEN 0.0 END)"
)  # fmt: skip
DIGITS = "try_cast(nullif(regexp_extract(v, '^\\s*([+-]?[0-9]+)(\\.0*)?\\s*$', 1), '') AS HUGEINT)"
WHOLE = (
    f"CASE WHEN {DIGITS} BETWEEN -9223372036854775808 AND 9223372036854775807 THEN {DIGITS} WHEN {DIGITS} BETWEEN "
    f"9223372036854775808 AND 18446744073709551615 THEN {DIGITS} - 18446744073709551616 END::BIGINT"
)
LABELLED = (
    f"CASE WHEN {NUMBER} IN (0, 1) THEN ({NUMBER})::TINYINT WHEN ({NUMBER})::VARCHAR IN ('nan', '-nan') THEN NULL "
    f"WHEN {NUMBER} IS NOT NULL THEN {NO_LABEL} END::TINYINT"
)
DAYS = (
    "2026-01-02", "2026-1-2", "2026-02-30", "2024-02-29", "2026-13-01", "2026-00-10", "2026-01-00", "0000-01-01",
    "9999-12-31", "1969-12-31", "20261-01-02", "026-01-02", "-026-01-02", "2026/01/02", "20260102", "٢٠٢٦-01-02",
    "２０２６-01-02", "infinity", "epoch", "null", "",
)  # fmt: skip
CLOCKS = (
    "", "03:04:05", "3:04:05", "03:4:05", "03:04:5", "03:04", "24:00:00", "23:59:60", "23:59:59", "25:00:00", "03",
    "03:04:05 PM", "03:60:00", " 3:04:05", "0 :04:05", "03:04:0 ", "03:04:٠٥",
)  # fmt: skip
FRACTIONS = ("", ".", *(f".{'123456789'[:digits]}" for digits in range(1, 10)), ".999999999", ".12 ", ".1e3", ",5")
ZONES = (
    "", "Z", "z", "UTC", " UTC", " Z", "+08:00", "+0800", "+08", "-05:30", "+15:59", "+16:00", "+8", "+08:60", "+08:0",
    " +01:00", "Zz", "PM", " Europe/Berlin", "CET", "ZZ", "Z+01",
)  # fmt: skip
AROUND = ("", "", "", "", " ", "  ", "\t", "\n", "\u00a0", "\u3000", "'", "x")
NUMBERS = (
    "0", "1", "-0", "+1", "00", "01", "007", "1.", "1.0", "0.0", "-1.0", "1.5", ".5", "1e0", "1e2", "12e2", "1e400",
    "1_000", "0x10", "9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809",
    "18446744073709551615", "18446744073709551616", "9" * 39, "9" * 60, "0" * 30 + "7", "nan", "-nan", "NaN", "inf",
    "-Infinity", "true", "TRUE", "tRuE", "false", "t", "yes", "null", "", "-", "+", ".", "e", "x1", "1x", "1 2", "٣",
    "１", "½", ":", "/", "7f3a", "1,5", "--1", "+-1",
)  # fmt: skip


def _times() -> Iterator[str]:
    drawn = random.Random(7)
    for day in DAYS:
        for clock in CLOCKS:
            for mark in "T ":
                yield day + (mark + clock if clock else "")
                for zone in ZONES:
                    yield day + (mark + clock if clock else "") + zone
    for _ in range(40_000):
        clock = drawn.choice(CLOCKS[:8]) + drawn.choice(FRACTIONS)
        text = drawn.choice(DAYS[:9]) + drawn.choice(("T", " ", "t", "  ")) + clock + drawn.choice(ZONES)
        if drawn.random() < 0.2:  # a letter that is another
            place = drawn.randrange(len(text))
            text = text[:place] + drawn.choice("0 9-:.TZ+x\t٣") + text[place + 1 :]
        yield drawn.choice(AROUND) + text + drawn.choice(AROUND)


def _numbers() -> Iterator[str]:
    for text in NUMBERS:
        for before in AROUND:
            yield from (before + text + after for after in AROUND)
    drawn = random.Random(8)
    for _ in range(20_000):
        yield "".join(drawn.choice("0123456789+-. e_x") for _ in range(drawn.randrange(22)))


def _unlike(texts: Iterator[str], expression: str, meant: str) -> list[tuple[object, ...]]:
    """Texts of which an expression over ``v`` says something else than what is meant."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        given = pl.DataFrame({"v": [None, *dict.fromkeys(texts)]}, schema={"v": pl.String})
        connection.register("given", given.to_arrow())
        both = f"SELECT v, ({expression})::VARCHAR AS found, ({meant})::VARCHAR AS meant FROM given"
        assert connection.sql(f"SELECT count(meant) > 20 AND count(*) > count(meant) FROM ({both})").fetchall()[0][0]
        return connection.sql(f"SELECT * FROM ({both}) WHERE found IS DISTINCT FROM meant").fetchall()


@pytest.mark.parametrize("zone", ["UTC", "Asia/Shanghai", "Europe/Berlin"])
def test_a_usual_time_is_what_any_text_would_be(zone: str) -> None:
    meant = (
        f"CASE WHEN regexp_full_match(trim(v), '{DAY}{CLOCK}') THEN timezone('{zone}', try_cast(trim(v) AS TIMESTAMP)) "
        f"WHEN regexp_full_match(trim(v), '{ZONED}') THEN try_cast(trim(v) AS TIMESTAMPTZ) END"
    )
    assert _unlike(_times(), moment("v", "VARCHAR", EventTime(of="v", zone=zone)), meant) == []


@pytest.mark.parametrize("kind", ["TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_NS", "DATE"])
def test_a_stored_time_is_that_of_the_calendar(kind: str) -> None:
    texts = iter([*(f"{year}-0{month}-0{month}" for year in range(1970, 1980) for month in range(1, 10)),
                  "0001-01-01", "9999-12-31", "infinity", "-infinity", "x"])  # fmt: skip
    value = f"try_cast(v AS {kind})"
    assert _unlike(texts, moment(value, kind, EventTime(of="v")), f"timezone('UTC', ({value})::TIMESTAMP)") == []


@pytest.mark.parametrize(
    ("expression", "meant"),
    [
        (whole_number("v", "VARCHAR"), WHOLE),
        (scalar("v", "VARCHAR", pl.Float64()), f"try_cast({NUMBER} AS DOUBLE)"),
        (scalar("v", "VARCHAR", pl.Float32()), f"try_cast({NUMBER} AS FLOAT)"),
        (scalar("v", "VARCHAR", LABEL), LABELLED),
        (why("y", "v", "VARCHAR", f"({LABELLED})", LABEL),
         f"CASE WHEN v IS NOT NULL AND ({NUMBER}) IS NULL THEN 'y is no label: ' || left(v, 60) END"),
    ],
    ids=["whole", "double", "float", "label", "why"],
)  # fmt: skip
def test_a_usual_number_is_what_any_text_would_be(expression: str, meant: str) -> None:
    assert _unlike(_numbers(), expression, meant) == []


@pytest.mark.parametrize("kind", ["TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UINTEGER", "UBIGINT", "HUGEINT"])
def test_whole_numbers_of_every_width_keep_their_bits(kind: str) -> None:
    value = f"try_cast(v AS {kind})"
    texts = [str(sign * (2**bits + more)) for bits in range(66) for sign in (1, -1) for more in (-1, 0, 1)]
    wide = f"({value})::HUGEINT"
    meant = (
        f"CASE WHEN {wide} BETWEEN -9223372036854775808 AND 9223372036854775807 THEN {wide} WHEN {wide} BETWEEN "
        f"9223372036854775808 AND 18446744073709551615 THEN {wide} - 18446744073709551616 END::BIGINT"
    )
    assert _unlike(iter([*texts, "x"]), whole_number(value, kind), meant) == []
