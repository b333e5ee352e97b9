"""What a person says of a log: options of ``exfm draft`` that go before every guess.

Belongs here: which role a column was given, which files are the impressions, whose clock it is. Not here: what is
guessed where none was (roles.py, moments.py).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from exfm.time_zones import check_zone
from pipeline.imports.finding import SourceFile
from pipeline.tables import DataError


@dataclass(frozen=True)
class Given:
    """Columns by the names that the files have.

    Args:
        impressions: a file or folder of the impressions.
        zone: of times that name none, and by whose clock days begin.

    Raises:
        DeclarationError: if no such zone is known.
    """

    time: str | None = None
    user: str | None = None
    item: str | None = None
    label: str | None = None
    surface: str | None = None
    impressions: Path | None = None
    zone: str | None = None

    def __post_init__(self) -> None:
        if self.zone is not None:
            check_zone("--zone", self.zone)

    @property
    def named(self) -> dict[str, str]:
        """Option -> column, of those that were given."""
        every = {
            "time": self.time, "user": self.user, "item": self.item, "label": self.label, "surface": self.surface
        }  # fmt: skip
        return {option: name for option, name in every.items() if name is not None}

    def are_impressions(self, sources: Iterable[SourceFile]) -> bool:
        """Are files those that were named as the impressions, or below that folder?"""
        if self.impressions is None:
            return False
        place = self.impressions.expanduser().resolve()
        return any(source.path.resolve().is_relative_to(place) for source in sources)

    def check(self, columns: Iterable[Iterable[str]]) -> None:
        """Is each one a column of some files?

        Raises:
            DataError: if not.
        """
        listed = list(dict.fromkeys(name for names in columns for name in names))
        for option, name in self.named.items():
            if name not in listed:
                raise DataError(f"--{option}: no file has a column {name!r}: there are {', '.join(listed[:20])}")
        roles = list(self.named.values())
        twice = next((name for name in roles if roles.count(name) > 1), None)
        if twice is not None:
            raise DataError(f"{twice!r} is given two roles: name another column for one of them")


NOTHING = Given()


def option(role: str, candidates: list[str]) -> str:
    """The end of a refusal: the option that sets a role, and the columns that may have it by their values."""
    listed = list(dict.fromkeys(candidates))
    by_value = f"by their values {', '.join(listed[:8])}" if listed else "by its values none"
    return f"set it by --{role} COLUMN: {by_value} may be it"
