"""Which types may stand for which: of files, of entity rows, of declared features.

Belongs here: type names and their families. Not here: reading values of them.
A family is what may be cast without changing meaning: an int32 file may back an Int64 feature, a string may not.
"""

import pyarrow as pa
from feast.types import Bool, Float32, Float64, Int32, Int64, String, UnixTimestamp

MOMENT = pa.timestamp("us", "UTC")
INT, FLOAT, STRING, TIMESTAMP, BOOL, NULL = "integer", "float", "string", "timestamp", "boolean", "null"

# Feast's type -> (family, DuckDB type, Arrow type); one that is not listed (arrays, bytes, ...) passes as it is.
DECLARED: dict[object, tuple[str, str, pa.DataType]] = {
    Int32: (INT, "INTEGER", pa.int32()),
    Int64: (INT, "BIGINT", pa.int64()),
    Float32: (FLOAT, "FLOAT", pa.float32()),
    Float64: (FLOAT, "DOUBLE", pa.float64()),
    String: (STRING, "VARCHAR", pa.string()),
    Bool: (BOOL, "BOOLEAN", pa.bool_()),
    UnixTimestamp: (TIMESTAMP, "TIMESTAMPTZ", MOMENT),
}
_WIDTHS = {BOOL: 1, NULL: 1}
_WIDE = 32  # bytes of a string or list, for want of knowing


def family(dtype: pa.DataType) -> str:
    """The family of a column; a type's own name if it belongs to none."""
    if pa.types.is_dictionary(dtype):
        return family(dtype.value_type)
    tests = {
        INT: pa.types.is_integer,
        FLOAT: pa.types.is_floating,
        BOOL: pa.types.is_boolean,
        NULL: pa.types.is_null,
    }
    for name, test in tests.items():
        if test(dtype):
            return name
    if pa.types.is_string(dtype) or pa.types.is_large_string(dtype) or pa.types.is_string_view(dtype):
        return STRING
    return TIMESTAMP if pa.types.is_timestamp(dtype) or pa.types.is_date(dtype) else str(dtype)


def width(dtype: pa.DataType) -> int:
    """About how many bytes a value takes in memory."""
    name = family(dtype)
    return _WIDTHS.get(name, 8 if name in (INT, FLOAT, TIMESTAMP) else _WIDE)
