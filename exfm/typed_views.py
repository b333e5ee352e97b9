"""What views have in common whose features are declared one by one, each with its kind.

Belongs here: their keys and features. Not here: where rows come from (source_views.py, computed_views.py).
"""

from collections.abc import Mapping
from datetime import timedelta

from exfm.declaration import Declaration, declaration
from exfm.encoding import Encoding, id_encoding
from exfm.errors import DeclarationError, choose_from, not_empty, unique
from exfm.inputs import Bag, Number, Vector, check_beside
from exfm.log_columns import Column
from exfm.stream import Stream

Feature = Column | Number | Vector | Bag


@declaration
class _TypedView(Declaration):
    """A view of ``Column``, ``Number``, ``Vector`` and ``Bag`` features, keyed by columns of the log."""

    name: str
    entities: tuple[str, ...]
    inputs: tuple[Feature, ...]
    delay: timedelta = timedelta(0)
    online: bool = True
    pushed: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        where = self._where
        not_empty(f"{where}.entities", self.entities, what="entity")
        not_empty(f"{where}.inputs", self.inputs, what="feature")
        unique(f"{where}.entities", self.entities)
        unique(f"{where}.inputs", self.features)
        if self.pushed and not self.online:
            raise DeclarationError(f"{where}.pushed: True pushes into an online store: set online=True, or drop it")
        for feature in self.inputs:
            if feature.name in (*self.entities, "event_timestamp", "created_timestamp"):
                raise DeclarationError(f"{where}.inputs: {feature.name!r} is its key or its time: rename one")

    @property
    def features(self) -> tuple[str, ...]:
        return tuple(feature.name for feature in self.inputs)

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

    def _check_keys(self, stream: Stream) -> None:
        """Refuse an entity that is no column of the log, or a bag that shares the rows of none."""
        columns = [column.name for column in (stream.user, stream.item, stream.surface, *stream.context)]
        for entity in self.entities:
            choose_from(f"{self._where}.entities", entity, columns, what="column of the log")
        for feature in self.inputs:
            if isinstance(feature, Bag) and feature.of is not None and ":" not in feature.of:  # else: bag_checks.py
                choose_from(f"Bag({feature.name}).of", feature.of, columns, what="column of the log")
        check_beside(feature for feature in self.inputs if isinstance(feature, Bag))
