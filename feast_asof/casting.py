"""Columns as other types, where nothing is lost: what files of a source have in common, what a push must become.

Belongs here: values and their types. Not here: which type is wanted (plan.py, pushing.py).
"""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from feast_asof.types import FLOAT, INT, NULL, TIMESTAMP, family

_NUMBERS = (INT, FLOAT)


def fit(column: pa.ChunkedArray, dtype: pa.DataType) -> pa.ChunkedArray:
    """The column as another type. Of a timestamp the part below a microsecond may go, of a float what its width lacks.

    A naive timestamp is UTC, a date its midnight. Elements of lists and fields of structs are fitted one by one.

    Raises:
        pa.ArrowInvalid: if a value, a field or a part of one would be lost.
    """
    if column.type == dtype:
        return column
    fitted = [_fit(chunk, dtype) for chunk in column.chunks]
    return pa.chunked_array(fitted, type=dtype)


def _fit(array: pa.Array, dtype: pa.DataType) -> pa.Array:
    if array.type == dtype:
        return array
    if array.null_count == len(array):
        return pa.nulls(len(array), dtype)
    if pa.types.is_dictionary(array.type):
        return _fit(array.cast(array.type.value_type), dtype)
    if pa.types.is_dictionary(dtype):
        return _fit(array, dtype.value_type).dictionary_encode().cast(dtype)
    given, wanted = family(array.type), family(dtype)
    if given == wanted == TIMESTAMP:
        return _fit_moments(array, dtype)
    if given == wanted or (given in _NUMBERS and wanted in _NUMBERS):
        return _fit_plain(array, dtype)
    if is_list(array.type) and is_list(dtype):
        return _fit_lists(array, dtype)
    if pa.types.is_struct(array.type) and pa.types.is_struct(dtype):
        return _fit_structs(array, dtype)
    if pa.types.is_map(dtype):
        return _fit_maps(array, dtype)
    if _is_bytes(array.type) and _is_bytes(dtype) or pa.types.is_decimal(array.type) and pa.types.is_decimal(dtype):
        return array.cast(dtype)
    raise pa.ArrowInvalid(f"{array.type} is not {dtype}")


def is_list(dtype: pa.DataType) -> bool:
    """Is it a list, however its lengths are kept?"""
    return bool(pa.types.is_list(dtype) or pa.types.is_large_list(dtype) or pa.types.is_fixed_size_list(dtype))


def common_type(types: Sequence[pa.DataType]) -> pa.DataType | None:
    """One type for a column whose files differ; ``None`` if there is none. Without any file, null."""
    distinct = {_decoded(dtype) for dtype in types if family(dtype) != NULL}
    if len(distinct) < 2:
        return next(iter(distinct), pa.null())
    schemas = [pa.schema([("column", dtype)]) for dtype in sorted(distinct, key=str)]
    try:
        return pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except pa.ArrowException:
        return None


def decoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The values of a dictionary (in pandas: of categories); other columns as they are."""
    return column.cast(_decoded(column.type))


def _decoded(dtype: pa.DataType) -> pa.DataType:
    return dtype.value_type if pa.types.is_dictionary(dtype) else dtype


def _is_bytes(dtype: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(dtype)
        or pa.types.is_large_binary(dtype)
        or pa.types.is_binary_view(dtype)
        or pa.types.is_fixed_size_binary(dtype)
    )


def _fit_plain(array: pa.Array, dtype: pa.DataType) -> pa.Array:
    fitted = array.cast(dtype)  # Arrow refuses what overflows or has a fraction, but for floats that become infinite
    if family(array.type) == family(dtype) == FLOAT and pc.any(pc.and_(pc.is_inf(fitted), pc.is_finite(array))).as_py():
        raise pa.ArrowInvalid(f"a value is beyond {dtype}")
    return fitted


def _fit_moments(array: pa.Array, dtype: pa.DataType) -> pa.Array:
    if pa.types.is_date(array.type):
        array = array.cast(pa.timestamp("s"))
    if pa.types.is_timestamp(dtype):
        if array.type.unit == "ns" and dtype.unit != "ns":
            array = array.cast(pa.timestamp("us", array.type.tz), safe=False)
        return array.cast(dtype)
    naive = array.cast(pa.timestamp(array.type.unit))  # UTC
    fitted = naive.cast(dtype)
    if not fitted.cast(naive.type).equals(naive):
        raise pa.ArrowInvalid(f"a time of day has no place in {dtype}")
    return fitted


def _fit_lists(array: pa.Array, dtype: pa.DataType) -> pa.Array:
    if pa.types.is_fixed_size_list(array.type):
        array = array.cast(pa.large_list(array.type.value_type))
    array = _from_zero(array)
    made = pa.LargeListArray if pa.types.is_large_list(array.type) else pa.ListArray
    mask = array.is_null() if array.null_count else None
    return made.from_arrays(array.offsets, _fit(array.values, dtype.value_type), mask=mask).cast(dtype)


def _fit_structs(array: pa.Array, dtype: pa.DataType) -> pa.Array:
    array = _from_zero(array)
    given = {field.name: array.field(index) for index, field in enumerate(array.type)}
    held = {name for name, values in given.items() if values.null_count < len(values)}
    lost = sorted(held - {field.name for field in dtype})
    if lost:
        raise pa.ArrowInvalid(f"fields {lost} are not in {dtype}")
    fields = [
        _fit(given[field.name], field.type) if field.name in given else pa.nulls(len(array), field.type)
        for field in dtype
    ]
    return pa.StructArray.from_arrays(fields, fields=list(dtype), mask=array.is_null())


def _fit_maps(array: pa.Array, dtype: pa.DataType) -> pa.Array:
    """Maps, or what readers make of them: lists of keys with values, or structs, whose null fields are no entries."""
    if pa.types.is_map(array.type):
        return array.cast(dtype)
    if pa.types.is_struct(array.type):
        rows = (None if row is None else row.items() for row in array.to_pylist())
        held = [None if row is None else [(key, value) for key, value in row if value is not None] for row in rows]
    elif is_list(array.type) and pa.types.is_struct(array.type.value_type) and array.type.value_type.num_fields == 2:
        held = [None if row is None else [tuple(entry.values()) for entry in row] for row in array.to_pylist()]
    else:
        raise pa.ArrowInvalid(f"{array.type} is not {dtype}")
    try:
        return pa.array(held, dtype)
    except (pa.ArrowException, TypeError) as error:
        raise pa.ArrowInvalid(str(error)) from None


def _from_zero(array: pa.Array) -> pa.Array:
    """The same values, not as a slice of a longer array: its children would not be sliced."""
    return array if not array.offset else pa.concat_arrays([array, array.slice(0, 0)])
