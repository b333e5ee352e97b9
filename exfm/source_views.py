"""Source views: features that somebody else keeps, in files of their own or in a Feast repository of their own.

Belongs here: what is read of whose table, and from when it holds. Not here: reading it (pipeline/streams/sources.py).
"""

from collections.abc import Mapping
from datetime import timedelta

from exfm.clocks import check_delay, check_reach
from exfm.declaration import Declaration, declaration
from exfm.encoding import Encoding, id_encoding
from exfm.errors import DeclarationError, choose_from, identifier, not_empty, positive, unique
from exfm.inputs import Bag, Number, Vector
from exfm.stream import Column, Stream

FOREVER = timedelta(days=20_000)  # before any stream, and after 1970
Feature = Column | Number | Vector | Bag


@declaration
class SourceView(Declaration):
    """A table that somebody else keeps: user profiles, a catalogue, campaigns, a feature view of another Feast
    repository. It is read as of each impression and never written; nothing of it has to be made by exfm.

    Rows are read once, slice by slice, by the time from which they hold, and kept like any view's. An entity without a
    row has null in all features, which is an id of its own, an unknown number, an empty bag.

    Args:
        name: also the Feast view's name.
        entities: columns of the log that key it; the source calls them the same.
        inputs: ``Column``, ``Number``, ``Vector`` or ``Bag``, by the names that the source's columns have.
        path: parquet files: a file, a folder or a glob; one that is relative lies in the log's folder.
        feast: folder of another Feast repository instead, which is asked for its view ``view``.
        view: the view's name there; ``None``: the same as here.
        timestamp: the column that says from when a row holds, UTC; of ``feast`` the view says it. ``None``: rows hold
            from the stream's beginning on, whenever they were written, so values may tell of the future.
        expires: after which time a row says nothing more; ``None``: it holds until the next one.
        delay, online, pushed: as in ``FeatureView``.
    """

    name: str
    entities: tuple[str, ...]
    inputs: tuple[Feature, ...]
    path: str | None = None
    feast: str | None = None
    view: str | None = None
    timestamp: str | None = None
    expires: timedelta | None = None
    delay: timedelta = timedelta(0)
    online: bool = True
    pushed: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        where = f"SourceView({self.name})"
        not_empty(f"{where}.entities", self.entities, what="entity")
        not_empty(f"{where}.inputs", self.inputs, what="feature")
        unique(f"{where}.entities", self.entities)
        unique(f"{where}.inputs", self.features)
        if (self.path is None) == (self.feast is None):
            raise DeclarationError(
                f"{where}.path: {self.path!r} beside feast={self.feast!r}: use one of them, files or a repository"
            )
        if self.feast is None and self.view is not None:
            raise DeclarationError(f"{where}.view: {self.view!r} is of no repository: set feast, or drop it")
        if self.feast is not None and self.timestamp is not None:
            raise DeclarationError(f"{where}.timestamp: {self.timestamp!r}: the view in {self.feast} says it: drop it")
        if self.timestamp is not None:
            identifier(f"{where}.timestamp", self.timestamp)
        if self.expires is not None:
            positive(f"{where}.expires", self.expires)
        check_delay(where, self.delay, self.ttl)
        if self.pushed and not self.online:
            raise DeclarationError(f"{where}.pushed: True pushes into an online store: set online=True, or drop it")
        for feature in self.inputs:
            if feature.name in (*self.entities, "event_timestamp", "created_timestamp"):
                raise DeclarationError(f"{where}.inputs: {feature.name!r} is its key or its time: rename one")

    @property
    def features(self) -> tuple[str, ...]:
        return tuple(feature.name for feature in self.inputs)

    @property
    def sources(self) -> tuple[str, ...]:
        """What of the log it is made of: nothing."""
        return ()

    @property
    def ttl(self) -> timedelta:
        """After this a row says nothing more."""
        return FOREVER if self.expires is None else self.expires

    @property
    def description(self) -> str:
        kept = f"files at {self.path}" if self.path is not None else f"Feast repository {self.feast}"
        until = "until the next row" if self.expires is None else f"for {self.expires}"
        leaks = "; rows have no time, so values may tell of the future" if self.is_timeless else ""
        return f"By {', '.join(self.entities)}, kept in {kept}; a row holds {until}{leaks}."

    @property
    def is_timeless(self) -> bool:
        """Do its rows not say from when they hold?"""
        return self.timestamp is None and self.feast is None

    def declared(self, feature: str) -> Feature:
        """A feature as it is declared."""
        return next(each for each in self.inputs if each.name == feature)

    def encoding(self, feature: str, dtypes: Mapping[str, type]) -> Encoding:
        """How a feature becomes an input of networks.

        Args:
            dtypes: of the log's id columns.
        """
        declared = self.declared(feature)
        if isinstance(declared, Column):
            return id_encoding(f"{self.name}__{feature}", declared.dtype)
        return declared.encoding_among(dtypes)

    def check(self, stream: Stream) -> None:
        """Refuse what the stream can't give.

        Raises:
            DeclarationError: for an entity that is no column of the log, or a bag that shares the rows of none.
        """
        where = f"SourceView({self.name})"
        columns = [column.name for column in (stream.user, stream.item, stream.surface, *stream.context)]
        for entity in self.entities:
            choose_from(f"{where}.entities", entity, columns, what="column of the log")
        for feature in self.inputs:
            if isinstance(feature, Bag) and feature.of is not None:
                choose_from(f"Bag({feature.name}).of", feature.of, columns, what="column of the log")
        if self.expires is not None:
            check_reach(f"{where}.expires", self.expires, stream)
