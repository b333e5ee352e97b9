"""Source views: features that somebody else keeps, in files of their own or in a Feast repository of their own.

Belongs here: what is read of whose table, and from when it holds. Not here: reading it (pipeline/imports/sources.py).
"""

from datetime import timedelta

from exfm.clocks import check_delay, check_reach
from exfm.declaration import declaration
from exfm.errors import DeclarationError, identifier, positive
from exfm.log_files import Files
from exfm.stream import Stream
from exfm.typed_views import _TypedView

FOREVER = timedelta(days=20_000)  # before any stream, and after 1970


@declaration
class SourceView(_TypedView):
    """A table that somebody else keeps: user profiles, a catalogue, campaigns, a feature view of another Feast
    repository. It is read as of each impression and never written; nothing of it has to be made by exfm.

    Rows are read once, slice by slice, by the time from which they hold, and kept like any view's. An entity without a
    row has null in all features, which is an id of its own, an unknown number, an empty bag.

    Args:
        name: also the Feast view's name.
        entities: columns of the log that key it; the source calls them the same.
        inputs: ``Column``, ``Number``, ``Vector`` or ``Bag``, by the names that the source's columns have.
        path: parquet files: a file, a folder or a glob, or a Delta table's folder; if relative, it lies in the log's
            folder.
        files: files of any other kind instead, as a log's: ``Files(paths=("items.csv",), columns=...)``, whose ``time``
            says from when a row holds.
        feast: folder of another Feast repository instead, which is asked for its view ``view``.
        view: the view's name there; ``None``: the same as here.
        timestamp: the column that says from when a row holds, UTC; of ``feast`` the view says it. ``None``: rows hold
            from the stream's beginning on, whenever they were written, so values may tell of the future.
        expires: after which time a row says nothing more; ``None``: it holds until the next one.
        delay, online, pushed: as in ``FeatureView``.
    """

    path: str | None = None
    files: Files | None = None
    feast: str | None = None
    view: str | None = None
    timestamp: str | None = None
    expires: timedelta | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        where = self._where
        given = [name for name in ("path", "files", "feast") if getattr(self, name) is not None]
        if len(given) != 1:
            raise DeclarationError(
                f"{where}.path: {self.path!r} beside feast={self.feast!r} and files={'given' if self.files else None}: "
                "use one of them, files or a repository"
            )
        if self.files is not None and self.timestamp is not None:
            raise DeclarationError(f"{where}.timestamp: {self.timestamp!r} beside files: write Files.time")
        if self.files is not None and self.files.id is not None:
            raise DeclarationError(f"{where}.files: its rows are known by the view's entities: drop Files.id")
        if self.feast is None and self.view is not None:
            raise DeclarationError(f"{where}.view: {self.view!r} is of no repository: set feast, or drop it")
        if self.feast is not None and self.timestamp is not None:
            raise DeclarationError(f"{where}.timestamp: {self.timestamp!r}: the view in {self.feast} says it: drop it")
        if self.timestamp is not None:
            identifier(f"{where}.timestamp", self.timestamp)
        if self.expires is not None:
            positive(f"{where}.expires", self.expires)
        check_delay(where, self.delay, self.ttl)

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
        kept = f"Feast repository {self.feast}"
        if self.path is not None or self.files is not None:
            kept = f"files at {self.path if self.files is None else ', '.join(self.files.paths)}"
        until = "until the next row" if self.expires is None else f"for {self.expires}"
        leaks = "; rows have no time, so values may tell of the future" if self.is_timeless else ""
        return f"By {', '.join(self.entities)}, kept in {kept}; a row holds {until}{leaks}."

    @property
    def is_timeless(self) -> bool:
        """Do its rows not say from when they hold?"""
        return self.timestamp is None and self.feast is None and (self.files is None or self.files.time is None)

    def check(self, stream: Stream) -> None:
        """Refuse what the stream can't give.

        Raises:
            DeclarationError: for an entity that is no column of the log, or a bag that shares the rows of none.
        """
        self._check_keys(stream)
        if self.expires is not None:
            check_reach(f"{self._where}.expires", self.expires, stream)
