"""Loading the online store: what Feast's local engine does, a column at a time where it goes value by value.

Belongs here: rows of a table as the protos that every online store of Feast takes. Not here: where they are kept
(embedded.py), which rows they are (Feast asks the offline store).

Feast's engine looks at each value of each column several times (is it null, like an array, of which type). Where a
column's Arrow type says all that, one pass makes the same protos; all other types go Feast's way. It is named as
``batch_engine`` in feature_store.yaml, so it serves whichever online store is configured there.
"""

import feature_repo.unchecked  # noqa: F401  # isort: skip  # before Feast

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import repeat
from typing import Any, Literal

import pandas as pd
import pyarrow as pa
from feast import FeatureView, ValueType
from feast.infra.common.materialization_job import MaterializationJobStatus, MaterializationTask
from feast.infra.compute_engines.dag.context import ExecutionContext
from feast.infra.compute_engines.local.arrow_table_value import ArrowTableValue
from feast.infra.compute_engines.local.compute import LocalComputeEngine, LocalComputeEngineConfig
from feast.infra.compute_engines.local.feature_builder import LocalFeatureBuilder
from feast.infra.compute_engines.local.job import LocalMaterializationJob
from feast.infra.compute_engines.local.nodes import LocalOutputNode
from feast.infra.registry.base_registry import BaseRegistry
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.type_map import python_values_to_proto_values
from feast.utils import _convert_arrow_to_proto

from feature_repo.embedded import EmbeddedOnlineStore

Row = tuple[EntityKey, dict[str, Value], datetime, datetime | None]
# Of columns whose Arrow type is one of these, each value is null or becomes this field as it is.
_AS_THEY_ARE = {
    ValueType.INT32: ("int32_val", pa.types.is_integer),
    ValueType.INT64: ("int64_val", pa.types.is_integer),
    ValueType.FLOAT: ("float_val", pa.types.is_floating),
    ValueType.DOUBLE: ("double_val", pa.types.is_floating),
    ValueType.STRING: ("string_val", lambda kind: pa.types.is_string(kind) or pa.types.is_large_string(kind)),
    ValueType.BOOL: ("bool_val", pa.types.is_boolean),
}
_NULL = Value()


class LoadingEngineConfig(LocalComputeEngineConfig):  # type: ignore[misc]  # Feast ships no types
    """The ``batch_engine`` block."""

    type: Literal["feature_repo.loading.LoadingEngine"] = "feature_repo.loading.LoadingEngine"


class LoadingEngine(LocalComputeEngine):  # type: ignore[misc]  # Feast ships no types
    """Feast's local engine, whose last step is ``_Output``."""

    def _materialize_one(
        self, registry: BaseRegistry, task: MaterializationTask, **kwargs: Any
    ) -> LocalMaterializationJob:
        job_id = f"{task.feature_view.name}-{task.start_time}-{task.end_time}"
        context = self.get_execution_context(registry, task)
        try:
            _Builder(registry, task, backend=self._get_backend(context)).build().execute(context)
        except Exception as error:  # Feast raises what the job holds
            return LocalMaterializationJob(job_id=job_id, status=MaterializationJobStatus.ERROR, error=error)
        return LocalMaterializationJob(job_id=job_id, status=MaterializationJobStatus.SUCCEEDED)


class _Builder(LocalFeatureBuilder):  # type: ignore[misc]  # Feast ships no types
    def build_output_nodes(self, view: FeatureView, input_node: Any) -> LocalOutputNode:
        node = _Output("output", self.dag_root.view, inputs=[input_node])
        self.nodes.append(node)
        return node


class _Output(LocalOutputNode):  # type: ignore[misc]  # Feast ships no types
    """Writes rows online; what is written offline, too, goes Feast's way."""

    def execute(self, context: ExecutionContext) -> ArrowTableValue:
        table = self.get_single_table(context).data
        if self.feature_view.offline or not self.feature_view.online:
            return super().execute(context)
        output = ArrowTableValue(data=table)
        context.node_outputs[self.name] = output
        if isinstance(context.online_store, EmbeddedOnlineStore):
            with _uncollected():
                if context.online_store.write_table(context.repo_config, self.feature_view, table):
                    return output
        join_keys = {entity.name: entity.dtype.to_value_type() for entity in self.feature_view.entity_columns}
        size = context.repo_config.materialization_config.online_write_batch_size or table.num_rows
        with _uncollected():
            for batch in table.combine_chunks().to_batches(max_chunksize=size) if table.num_rows else ():
                context.online_store.online_write_batch(
                    config=context.repo_config,
                    table=self.feature_view,
                    data=rows_of(batch, self.feature_view, join_keys),
                    progress=lambda _: None,
                )
        return output


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without looking for cycles: a batch makes a million objects that have none, and each look walks all of them."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def rows_of(batch: pa.RecordBatch, view: FeatureView, join_keys: dict[str, ValueType]) -> list[Row]:
    """A batch's rows: key, values by feature, event and created time; as Feast's own conversion has them."""
    columns = {field.name: field.dtype.to_value_type() for field in view.features} | join_keys
    if not all(_is_plain(batch, name, kind) for name, kind in columns.items()):
        rows: list[Row] = _convert_arrow_to_proto(batch, view, join_keys)
        return rows
    names = [field.name for field in view.features]
    of = {name: _protos(batch.column(name), kind) for name, kind in columns.items()}
    keys = list(join_keys)
    entities = [
        EntityKey(join_keys=keys, entity_values=values) for values in zip(*(of[key] for key in keys), strict=True)
    ]
    values = [dict(zip(names, row, strict=True)) for row in zip(*(of[name] for name in names), strict=True)]
    source = view.batch_source
    created = source.created_timestamp_column
    return list(
        zip(
            entities,
            values,
            _moments(batch.column(source.timestamp_field)),
            _moments(batch.column(created)) if created else repeat(None, batch.num_rows),
            strict=True,
        )
    )


def _is_plain(batch: pa.RecordBatch, name: str, kind: ValueType) -> bool:
    """Can the column be converted as it is, or as lists by Feast?"""
    return name in batch.schema.names and (kind not in _AS_THEY_ARE or _AS_THEY_ARE[kind][1](batch.column(name).type))


def _protos(column: pa.Array, kind: ValueType) -> Sequence[Value]:
    if kind not in _AS_THEY_ARE:
        protos: Sequence[Value] = python_values_to_proto_values(column.to_numpy(zero_copy_only=False), kind)
        return protos
    field = _AS_THEY_ARE[kind][0]
    # A NaN is no value, as in Feast; of all others v == v.
    return [Value(**{field: value}) if value is not None and value == value else _NULL for value in column.to_pylist()]


def _moments(column: pa.Array) -> Sequence[datetime]:
    moments: Sequence[datetime] = pd.to_datetime(column.to_numpy(zero_copy_only=False)).to_pydatetime()
    return moments
