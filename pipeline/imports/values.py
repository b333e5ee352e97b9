"""Values of any form as the log's contract has them: expressions of DuckDB, ``NULL`` where a value is none.

Belongs here: one value at a time. Not here: which column of a file it is (converting.py).

Nothing is guessed and nothing is rounded.
"""

import re

import polars as pl

from exfm.log_files import EventTime
from pipeline.imports.reading import literal
from pipeline.streams.contract import LABEL, NO_LABEL, UTC

WHOLE_IN_FLOAT = 2**53
FORMS = {"s": 1_000_000, "ms": 1_000, "us": 1}
FAR = 200_000_000_000_000_000  # microseconds: as far from 1970 as DuckDB can count and we need not
EARLIEST, LATEST = "1970-01-01", "2200-01-01"
_INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER")
_WIDE = ("UBIGINT", "HUGEINT")  # integers that may not fit into 64 bits with a sign
_WITHOUT_ZONE = (10, 19, 23, 26)  # bytes of the most usual times that name no zone
_LONGEST = 20  # bytes of a whole number of 64 bits, as it is written
SHOWN = 60  # characters of a value in a reason


def count(values: str) -> str:
    """How many values of a list are not null."""
    return f"len(list_filter({values}, lambda each: each IS NOT NULL))"


def hashed(text: str) -> str:
    """63 bits of the MD5 of a text: the same on every machine and version."""
    return f"(md5_number_lower({text}) >> 1)::BIGINT"


def sql_type(dtype: pl.DataType) -> str:
    """A type of the contract as DuckDB calls it."""
    if isinstance(dtype, pl.List):
        return f"{sql_type(dtype.inner)}[]"  # type: ignore[arg-type]
    return {
        pl.Int64(): "BIGINT", pl.Int8(): "TINYINT", pl.String(): "VARCHAR", pl.Float64(): "DOUBLE",
        pl.Float32(): "FLOAT", UTC: "TIMESTAMPTZ",
    }[dtype]  # fmt: skip


def scalar(value: str, kind: str, dtype: pl.DataType) -> str:
    """A value in a type of the contract, ``NULL`` where it is none.

    Args:
        kind: the value's own type.
    """
    if dtype == pl.String():
        digits = whole_number(value, kind) if kind in ("DOUBLE", "FLOAT") else "NULL"
        return f"coalesce(({digits})::VARCHAR, ({value})::VARCHAR)" if digits != "NULL" else f"({value})::VARCHAR"
    if dtype == LABEL:
        number = _number(value, kind)
        plain = f"WHEN {value} = '0' THEN 0 WHEN {value} = '1' THEN 1 " if kind == "VARCHAR" else ""
        # Not isnan: DuckDB 2.0 answers that from a file's statistics, which leave NaN out.
        return (
            f"CASE {plain}WHEN {number} IN (0, 1) THEN ({number})::TINYINT "
            f"WHEN ({number})::VARCHAR IN ('nan', '-nan') THEN NULL "
            f"WHEN {number} IS NOT NULL THEN {NO_LABEL} END::TINYINT"
        )
    if dtype.is_float():
        return f"try_cast({_number(value, kind)} AS {sql_type(dtype)})"
    return whole_number(value, kind)


def _number(value: str, kind: str) -> str:
    if kind == "VARCHAR":
        flag = f"CASE lower(trim({value})) WHEN 'true' THEN 1.0 WHEN 'false' THEN 0.0 END"
        return f"coalesce(try_cast({value} AS DOUBLE), try_cast(trim({value}) AS DOUBLE), {flag})"
    if kind == "BOOLEAN":
        return f"({value})::INTEGER::DOUBLE"
    return f"try_cast({value} AS DOUBLE)"


def whole_number(value: str, kind: str) -> str:
    """A whole number of 64 bits; of one without a sign above 2^63 - 1, the same bits."""
    if kind == "VARCHAR":
        digits = f"regexp_extract({value}, '^\\s*([+-]?[0-9]+)(\\.0*)?\\s*$', 1)"
        any_form = _signed(f"try_cast(nullif({digits}, '') AS HUGEINT)")
        # A cast rounds 1.5; one that is written as it was read is exact, and three times as fast as the pattern.
        # A cast that fails takes as long as both: a text that begins with a letter is not tried.
        plain = f"try_cast({value} AS BIGINT)"
        exact = f"strlen({value}) <= {_LONGEST} AND {plain}::VARCHAR = {value}"
        return f"CASE WHEN {value} < ':' THEN CASE WHEN {exact} THEN {plain} ELSE {any_form} END END"
    if kind in _INTEGERS:
        return f"({value})::BIGINT"
    if kind in _WIDE:
        return _signed(f"({value})::HUGEINT")
    if kind == "BOOLEAN":
        return f"({value})::BIGINT"
    if kind.startswith("DECIMAL"):
        return f"CASE WHEN {value} = trunc({value}) THEN {_signed(f'({value})::HUGEINT')} END"
    if kind in ("DOUBLE", "FLOAT"):
        number = f"({value})::DOUBLE"
        exact = f"{number} = trunc({number}) AND abs({number}) <= {WHOLE_IN_FLOAT}"
        return f"CASE WHEN {exact} THEN ({number})::BIGINT END"
    return "NULL::BIGINT"


def _signed(number: str) -> str:
    return (
        f"CASE WHEN {number} BETWEEN -9223372036854775808 AND 9223372036854775807 THEN {number} "
        f"WHEN {number} BETWEEN 9223372036854775808 AND 18446744073709551615 "
        f"THEN {number} - 18446744073709551616 END::BIGINT"
    )


def moment(value: str, kind: str, time: EventTime) -> str:
    """A moment, ``NULL`` where it is none."""
    if kind == "TIMESTAMP WITH TIME ZONE":
        return f"({value})"
    if kind == "TIMESTAMPTZ_NS":
        return f"make_timestamptz(epoch_ns({value}) // 1000)"
    if kind.startswith("TIMESTAMP") or kind == "DATE":
        return _in_zone(f"({value})::TIMESTAMP", time.zone)
    if time.unit != "iso":
        return _since_1970(value, kind, time.unit)
    text = f"({value})::VARCHAR"
    if time.format is not None:
        if re.search(r"(?<!%)(%%)*%[zZ]", time.format):
            return f"try_strptime(trim({text}), {literal(time.format)})::TIMESTAMPTZ"
        return f"timezone({literal(time.zone)}, try_strptime(trim({text}), {literal(time.format)})::TIMESTAMP)"
    # Trimming takes as long as a pattern, and few texts need it.
    return f"coalesce({_iso(text, time.zone)}, {_iso(f'trim({text})', time.zone)})"


def _iso(text: str, zone: str) -> str:
    """The moment that an ISO text names. A text has at most one of the forms: which is asked first is for speed."""
    day = "[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}"
    clock = "([T ][0-9]{1,2}:[0-9]{2}(:[0-9]{2}(\\.[0-9]*)?)?)?"
    naive = f"regexp_full_match({text}, '{day}{clock}')"  # a cast drops what stands after a time: PM, a zone's name
    zoned = f"regexp_full_match({text}, '{day}{clock} ?([zZ]|UTC|[+-](0[0-9]|1[0-5])(:?[0-5][0-9])?)')"
    with_zone, clock_time = f"try_cast({text} AS TIMESTAMPTZ)", f"try_cast({text} AS TIMESTAMP)"
    return (
        f"CASE WHEN strlen({text}) NOT IN {_WITHOUT_ZONE} AND {zoned} THEN {with_zone} "
        f"WHEN {naive} THEN {_in_zone(clock_time, zone, finite='true')} "
        f"WHEN {zoned} THEN {with_zone} END"
    )


def _in_zone(clock: str, zone: str, finite: str | None = None) -> str:
    """The moment at which clocks of a zone show a time. Asking the zone's calendar takes longer than the cast."""
    of_calendar = f"timezone({literal(zone)}, {clock})"
    if zone != "UTC":
        return of_calendar
    return f"CASE WHEN {finite or f'isfinite({clock})'} THEN make_timestamptz(epoch_us({clock})) ELSE {of_calendar} END"


def _since_1970(value: str, kind: str, unit: str) -> str:
    if kind.startswith("DECIMAL"):
        number = value if unit == "ns" else f"try_cast({value} AS DECIMAL(30, 9))"
    elif kind in ("DOUBLE", "FLOAT"):
        number = f"({value})::DOUBLE"
    elif kind == "VARCHAR":
        number = f"try_cast(trim({value}) AS DECIMAL(30, 9))"
    else:
        number = f"try_cast({value} AS HUGEINT)"
    if unit == "ns":
        micros = f"try_cast(floor({number}) AS HUGEINT) // 1000"
    else:
        micros = f"try_cast(round({number} * {FORMS[unit]}) AS HUGEINT)"
    return f"CASE WHEN {micros} BETWEEN -{FAR} AND {FAR} THEN make_timestamptz(({micros})::BIGINT) END"


def words(dtype: pl.DataType) -> str:
    """What the values of a list are, in the plural."""
    return "whole numbers" if dtype.is_integer() else "numbers" if dtype.is_float() else "texts"


def why(name: str, value: str, kind: str, made: str, dtype: pl.DataType) -> str:
    """Why a value is refused, ``NULL`` where it is not. NaN as a label says, like null, that it is not known."""
    what = "no label" if dtype == LABEL else "no whole number of 64 bits" if dtype == pl.Int64() else "no number"
    shown = f"left(({value})::VARCHAR, {SHOWN})"
    if dtype == pl.String() and kind == "VARCHAR":
        return "NULL::VARCHAR"
    told = f"{literal(f'{name} is {what}: ')} || {shown}"
    if dtype == LABEL:
        told = f"CASE WHEN ({_number(value, kind)}) IS NULL THEN {told} END"
    return f"CASE WHEN ({value}) IS NOT NULL AND ({made}) IS NULL THEN {told} END"


def as_list(value: str, kind: str, split: str | None) -> str:
    """A value as a list: one already, a text in the form of one, a text that is cut, or one alone."""
    if kind.endswith("]"):
        return value
    if kind != "VARCHAR":
        return f"CASE WHEN {value} IS NOT NULL THEN [{value}] END"
    cut = f"string_split({value}, {literal(split)})" if split else f"[{value}]"
    parsed = f"from_json({value}, '[\"VARCHAR\"]')"
    return (
        f"CASE WHEN starts_with(ltrim({value}), '[') AND json_valid({value}) THEN {parsed} "
        f"WHEN {value} IS NOT NULL THEN {cut} END"
    )


def apart(value: str) -> str:
    """A value's text as a part of several that are joined by ``|``: no two lists of parts become one text."""
    return f"replace(replace(({value})::VARCHAR, '\\', '\\\\'), '|', '\\|')"
