"""Opening, applying and reading a project's feature store.

Belongs here: the few calls that assets, benchmarks and notebooks make. Not here: what is declared (project_views.py),
where a store lies (opening.py), how rows are joined (feast_asof/), leak rules (guards.py).
"""

import feature_repo.unchecked  # noqa: F401  # isort: skip  # before Feast, which then takes half the time

import logging
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
from feast import FeatureService, FeatureStore, FeatureView
from feast.errors import FeatureViewNotFoundException
from feast.feature_view import DUMMY_ENTITY_NAME
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from sqlalchemy.exc import DatabaseError

from exfm.project import Project
from exfm.state import State
from exfm.writing import StateError, alone
from feast_asof.errors import RetrievalError
from feast_asof.job import AsofRetrievalJob
from feature_repo.embedded import LOCK, REGISTRY, EmbeddedOnlineStoreConfig
from feature_repo.mending import remove
from feature_repo.opening import forget, opened
from feature_repo.project_views import Objects, objects_of

_CLOCK, _IMPRESSION_CLOCK = "event_timestamp", "__impression_timestamp"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ApplyReport:
    """What the registry holds after an apply, and what was removed because it is no longer declared."""

    entities: tuple[str, ...]
    views: tuple[str, ...]
    services: tuple[str, ...]
    removed: tuple[str, ...]


def open_store(project: Project, state: State) -> FeatureStore:
    """The project's store, as ``feature_store.yaml`` describes it; opened once a process.

    Where the registry lacks something that the project declares (a student that was declared just now), it is applied.

    Raises:
        DeclarationError: if the yaml names an environment variable that is not set.
        StateError: if the registry lacks something and can't be written.
    """
    store, anew = opened(state)
    lacking = _lacking(store, objects_of(project, state)) if not anew else []
    if lacking:
        _log.warning("the Feast registry lacks %s: the declaration is applied", ", ".join(lacking))
    if anew or lacking:
        apply(project, state)
    return store


def _lacking(store: FeatureStore, declared: Objects) -> list[str]:
    """Declared services that the registry does not hold as they are."""
    held = {service.name: _references(service) for service in store.registry.list_feature_services(store.project)}
    services = [service for service in declared.all() if isinstance(service, FeatureService)]
    return [
        f"service {service.name}" for service in services if not _references(service) <= held.get(service.name, set())
    ]


def _references(service: FeatureService) -> set[str]:
    """What a service holds; its own name is included, so that an empty service differs from a missing one."""
    features = [
        (projection.name_to_use(), feature.name)
        for projection in service.feature_view_projections
        for feature in projection.features
    ]
    return {service.name, *(f"{view}:{feature}" for view, feature in features)}


def apply(project: Project, state: State) -> ApplyReport:
    """Make the registry hold what is declared and nothing else; applying again changes nothing.

    Raises:
        DeclarationError: if supervision could be reached as an input.
        StateError: if the registry can't be written.
    """
    declared = objects_of(project, state)
    with _writing(state.feast, "applying to the Feast registry"):
        try:
            return _applied(opened(state)[0], declared)
        except (DecodeError, DatabaseError):  # a registry whose pages hang together, but not what is in them
            forget(state)
            if not (state.feast / REGISTRY).exists():
                raise
            remove(state.feast / REGISTRY)
            _log.warning("%s could not be read and was removed: it is filled again", state.feast / REGISTRY)
            return _applied(opened(state)[0], declared)


def _applied(store: FeatureStore, declared: Objects) -> ApplyReport:
    stale = _stale(store, declared)
    views = set(declared.views)
    sources = [source for source in store.registry.list_data_sources(store.project) if source.name not in views]
    store.apply(declared.all(), objects_to_delete=[*stale, *sources], partial=False)
    return ApplyReport(
        entities=tuple(declared.entities),
        views=tuple(declared.views),
        services=tuple(declared.services),
        removed=tuple(sorted(thing.name for thing in stale)),
    )


def _stale(store: FeatureStore, declared: Objects) -> list[Any]:
    """What the registry holds but the declaration no longer has."""
    names = {(type(thing), thing.name) for thing in declared.all()}
    held = [
        *store.registry.list_feature_services(store.project),
        *store.registry.list_feature_views(store.project),
        *(entity for entity in store.registry.list_entities(store.project) if entity.name != DUMMY_ENTITY_NAME),
    ]
    return [thing for thing in held if (type(thing), thing.name) not in names]


@contextmanager
def _writing(folder: Path, doing: str) -> Iterator[None]:
    """Let one process write at a time, and word what SQLite refuses as one sentence.

    Raises:
        StateError: if the registry or the online store can't be written.
    """
    with alone(folder / LOCK, doing):
        try:
            yield
        except (DatabaseError, sqlite3.DatabaseError) as error:
            reason = error.orig if isinstance(error, DatabaseError) else error
            raise StateError(f"{doing} in {folder} failed ({reason}): {_remedy(str(reason))}") from error


def _remedy(reason: str) -> str:
    """What to do about an error of SQLite."""
    if "full" in reason:
        return "make room on its disk and run again"
    if "readonly" in reason or "unable to open" in reason:
        return "make the folder writable, or set EXFM_STATE to one that is"
    if "malformed" in reason or "not a database" in reason:
        return "a file there is damaged: delete that folder and materialise feature_registry and online_store again"
    return "run again; if it stays, delete that folder and materialise feature_registry and online_store again"


def read_inputs(
    store: FeatureStore, entities: pa.Table | str | Path, service: str, rows: int | None = None
) -> Iterator[pa.Table]:
    """Features as they were known at each impression (the inputs clock).

    Args:
        entities: an Arrow table, a DuckDB SELECT or a parquet file with the key columns and ``event_timestamp``.
        service: for example ``logged_inputs``.
        rows: at most so many a table, of which neither all entities nor all answers are in memory then; ``None``: one.

    Returns:
        tables of the columns of the entities, in their rows' order, then one ``<view>__<feature>`` column each.

    Raises:
        RetrievalError: if the service is not applied, or rows, files and views do not fit.
    """
    job = _job(store, entities, service)
    return iter([job.to_arrow()]) if rows is None else job.to_arrow_batches(rows)


def read_supervision(
    store: FeatureStore,
    entities: pa.Table | str,
    as_of: datetime,
    services: str | Sequence[str],
    stamped: tuple[datetime, datetime] | None = None,
) -> pa.Table:
    """A teacher's predictions as they were known at ``as_of`` (the supervision clock).

    Args:
        entities: an Arrow table or a DuckDB SELECT with ``impression_id`` and the impressions' ``event_timestamp``.
        as_of: predictions written after it are not seen; a naive one is UTC.
        services: for example ``feed_click_supervision``; of several, the union is joined once.
        stamped: first and last of the impressions' own times, where they are known: a prediction has its impression's,
            so those of other times need not be read.

    Returns:
        the columns of the entities, in their rows' order, then one ``<view>__<feature>`` column each; mask leaks
        (guards.mask_leaks) before learning from them.

    Raises:
        RetrievalError: as in read_inputs.
    """
    job = _job(store, _asking_as_of(entities, as_of), services)
    table = (job if stamped is None else job.of_rows_stamped(*stamped)).to_arrow()
    names = [_CLOCK if name == _IMPRESSION_CLOCK else name for name in table.column_names if name != _CLOCK]
    return table.drop_columns(_CLOCK).rename_columns(names)


def _asking_as_of(entities: pa.Table | str, as_of: datetime) -> pa.Table | str:
    """The entities with ``as_of`` for a clock; the impressions' own one stays in its position, renamed."""
    moment = as_of if as_of.tzinfo else as_of.replace(tzinfo=UTC)
    if isinstance(entities, str):
        microseconds = (moment - _EPOCH) // timedelta(microseconds=1)
        return (
            f"SELECT * RENAME ({_CLOCK} AS {_IMPRESSION_CLOCK}), make_timestamptz({microseconds}) AS {_CLOCK} "
            f"FROM (SELECT * REPLACE (CAST({_CLOCK} AS TIMESTAMPTZ) AS {_CLOCK}) FROM ({entities}))"
        )
    if _CLOCK not in entities.column_names:
        raise RetrievalError(f"entity rows: no column {_CLOCK!r}: add the impressions' own one")
    own = entities[_CLOCK].cast(pa.timestamp("us", "UTC"))
    index = entities.column_names.index(_CLOCK)
    clock = pa.repeat(pa.scalar(moment, pa.timestamp("us", "UTC")), entities.num_rows)
    return entities.set_column(index, _IMPRESSION_CLOCK, own).append_column(_CLOCK, clock)


def _job(store: FeatureStore, entities: pa.Table | str | Path, services: str | Sequence[str]) -> AsofRetrievalJob:
    job: AsofRetrievalJob = store.get_historical_features(
        entity_df=entities,
        features=_service(store, services) if isinstance(services, str) else _union(store, services),
        full_feature_names=True,
        filter_by_created_timestamp=True,
    )
    return job


def _union(store: FeatureStore, names: Sequence[str]) -> list[str]:
    """References of every feature that one of the services holds, each once."""
    projections = [projection for name in names for projection in _service(store, name).feature_view_projections]
    references = [
        f"{projection.name_to_use()}:{feature.name}" for projection in projections for feature in projection.features
    ]
    return list(dict.fromkeys(references))


def _service(store: FeatureStore, name: str) -> FeatureService:
    held = {service.name: service for service in store.registry.list_feature_services(store.project, allow_cache=True)}
    if name not in held:  # another process may have applied it since this one read the registry
        store.refresh_registry()
        held = {service.name: service for service in store.registry.list_feature_services(store.project)}
    if name not in held:
        raise RetrievalError(
            f"service: {name!r} is not in the registry, which has {sorted(held)}: run `feast -c feature_repo apply`"
        )
    return held[name]


def load_online(store: FeatureStore, views: list[str], start: datetime, end: datetime) -> None:
    """Load the newest row of each key with a timestamp in [start, end] into the online store.

    The online store keeps what was written last, even if it is older. So a window before one that was loaded already
    is extended to the newest end, and a repeated or late window never takes values back in time.

    Raises:
        RetrievalError: if a view is not applied or has no files.
        StateError: if the online store can't be written.
    """
    embedded = isinstance(store.config.online_store, EmbeddedOnlineStoreConfig)
    with (
        _writing(Path(store.config.online_store.path).parent, "loading the online store") if embedded else nullcontext()
    ):
        for name in views:
            loaded = _view(store, name).materialization_intervals
            newest = max([end, *(last for _, last in loaded)])
            store.materialize(start_date=start, end_date=newest, feature_views=[name])


def _view(store: FeatureStore, name: str) -> FeatureView:
    try:
        return store.get_feature_view(name)
    except FeatureViewNotFoundException:
        raise RetrievalError(
            f"view: {name!r} is not in the registry: materialise feature_registry, or run `feast -c feature_repo apply`"
        ) from None
