"""Names of columns: their words, and the identifiers that they become.

Belongs here: names alone. Not here: what a column of such a name is (roles.py).
"""

import re
import unicodedata
from collections.abc import Iterable

from exfm.names import COLUMNS, COUNTS

LONGEST = 40  # of a drafted name, so that what is added to it still fits
TAKEN = frozenset({
    *COLUMNS, *COUNTS, "at", "stamp", "hour_of_day", "day_of_week", "logged_inputs", "logged_teacher_features",
    "user_activity", "item_activity", "teacher_large", "filename",
})  # fmt: skip


def snake(name: str, place: int = 0) -> str:
    """A name as an identifier: lower-case words of ASCII with ``_`` between; ``column_0``, by place, if none is left.

    Accents are dropped; ``userId`` and ``user id`` become ``user_id``; ``$.device.os`` becomes ``device_os``.
    """
    plain = unicodedata.normalize("NFKD", name.replace("ß", "ss")).encode("ascii", "ignore").decode()
    plain = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", plain)
    plain = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", plain)
    made = re.sub(r"[^a-z0-9]+", "_", plain.lower())[:LONGEST].strip("_")
    if not made:
        return f"column_{place}"
    return made if made[0].isalpha() else f"column_{made}"


def identifiers(names: Iterable[str]) -> dict[str, str]:
    """Each name's own identifier: what is taken by tables of exfm gets ``logged_`` before it, a second one a number."""
    made: dict[str, str] = {}
    used: set[str] = set()
    for place, name in enumerate(names):
        first = snake(name, place)
        chosen = f"logged_{first}" if first in TAKEN else first
        number = 2
        while chosen in used:
            chosen, number = f"{first}_{number}", number + 1
        used.add(chosen)
        made[name] = chosen
    return made


def words(name: str) -> tuple[str, ...]:
    """``userId`` -> ``("user", "id")``."""
    return tuple(snake(name).split("_"))


def joined(name: str) -> str:
    """``user_id``, ``userId`` and ``UserID`` -> ``userid``."""
    return "".join(words(name))
