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
_DUCKDB_FAMILIES = {
    "FLOAT": FLOAT,
    "DOUBLE": FLOAT,
    "VARCHAR": STRING,
    "BOOLEAN": BOOL,
    "DATE": TIMESTAMP,
    '"NULL"': NULL,
    "NULL": NULL,
}
_DUCKDB_PREFIXES = {"TIMESTAMP": TIMESTAMP, "ENUM": STRING}


def family_of_arrow(dtype: pa.DataType) -> str:
    """The family of a column in a file; a type's own name if it belongs to none."""
    if pa.types.is_dictionary(dtype):
        return family_of_arrow(dtype.value_type)
    tests = {
        INT: pa.types.is_integer,
        FLOAT: pa.types.is_floating,
        BOOL: pa.types.is_boolean,
        NULL: pa.types.is_null,
    }
    for family, test in tests.items():
        if test(dtype):
            return family
    if pa.types.is_string(dtype) or pa.types.is_large_string(dtype):
        return STRING
    return TIMESTAMP if pa.types.is_timestamp(dtype) or pa.types.is_date(dtype) else str(dtype)


def family_of_duckdb(name: str) -> str:
    """The family of a column of the entity rows, from DuckDB's name of its type."""
    if name.endswith("]"):
        return name
    if name.removeprefix("U") in ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT"):
        return INT
    for prefix, family in _DUCKDB_PREFIXES.items():
        if name.startswith(prefix):
            return family
    return _DUCKDB_FAMILIES.get(name, name)
