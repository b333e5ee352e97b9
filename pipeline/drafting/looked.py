"""Everything that is known of one shape's files before guesses are made.

Belongs here: the bundle, and finding a column in it by its names. Not here: what is guessed (roles.py, tables.py).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from pipeline.drafting.given import NOTHING, Given
from pipeline.drafting.looking import Profile, nulls_of, profiles_of
from pipeline.drafting.mended import with_points, with_yes_no
from pipeline.drafting.moments import Moment, moments_of
from pipeline.drafting.sampling import Sample, take_sample
from pipeline.drafting.shapes import Shape
from pipeline.drafting.words import AFTERWARDS, AROUND


@dataclass(frozen=True)
class Looked:
    """A shape that was looked at.

    Args:
        moments: columns that may say when rows happened, the likeliest first.
        given: roles that a person set.
    """

    shape: Shape
    sample: Sample
    nulls: tuple[str, ...]
    profiles: dict[str, Profile]
    moments: tuple[Moment, ...]
    given: Given = NOTHING

    @property
    def title(self) -> str:
        return self.shape.title

    @property
    def is_given(self) -> bool:
        """Are they the impressions that a person named?"""
        return self.given.are_impressions(self.shape.sources)

    @property
    def moment(self) -> Moment | None:
        """The time of its rows, if one is likely."""
        return next((each for each in self.moments if each.rank > 0), None)

    @property
    def outcome_moment(self) -> Moment | None:
        """The time of outcomes: finer than a day if there is one, and called after what happened."""

        def order(each: Moment) -> tuple[bool, bool, float]:
            after = any({*self.profiles[name].words} & AFTERWARDS for name in each.used)
            return each.finest >= 86_400, not after, -each.rank

        return min(self.moments, key=order, default=None)

    def named(self, names: Sequence[str], fits: Callable[[Profile], bool] = lambda each: True) -> Profile | None:
        """The column with the first of some names that fits; else one with such a name among other words."""
        known = [each for each in self.profiles.values() if not each.is_empty and not each.is_list and fits(each)]
        for around in (False, True):
            by_name = {_core(each) if around else each.joined: each for each in reversed(known)}
            found = next((by_name[name] for name in names if name in by_name), None)
            if found is not None:
                return found
        return None


def _core(each: Profile) -> str:
    return "".join(word for word in each.words if word not in AROUND)


def look(
    connection: duckdb.DuckDBPyConnection, shape: Shape, number: int, aside: Path, given: Given = NOTHING
) -> Looked:
    """Look at a shape's files.

    Raises:
        DataError: if a file is damaged.
    """
    sample = take_sample(connection, shape, f"sample_{number}", aside)
    nulls = nulls_of(connection, sample)
    if sample.origins and shape.sources[0].kind == "csv" and shape.sources[0].separator != ",":
        sample = with_points(connection, sample, nulls)
    profiles = with_yes_no(connection, sample, profiles_of(connection, sample, nulls), nulls)
    moments = tuple(moments_of(connection, sample, profiles, nulls, given.time, given.zone))
    return Looked(shape, sample, nulls, profiles, moments, given)
