"""What changed between two declarations, in words for a sentence.

Belongs here: comparing canonical forms. Not here: making them (exfm/declaration.py).
"""

from collections.abc import Iterator, Mapping
from typing import Any


def differences(then: Mapping[str, Any], now: Mapping[str, Any], most: int = 3) -> str:
    """What of a declaration is other now, in words for a sentence; nothing where one of them is not known."""
    if not then or not now:
        return ""
    before, after = (dict(_leaves("", plain)) for plain in (then, now))
    changed = [path for path in [*before, *(path for path in after if path not in before)]
               if before.get(path) != after.get(path)]  # fmt: skip
    # What a part is, is told by its fields, where it was left out before.
    changed = [
        path for path in changed if not (path.endswith(".type") and (path in before) != (path in after))
    ] or changed
    words = [f"{path}: {_worded(before, after, path)}" for path in changed[:most]]
    more = [f"and {len(changed) - most} more"] if len(changed) > most else []
    return f" ({', '.join([*words, *more])})" if words else " (what it means in the code has changed)"


def _leaves(path: str, plain: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(plain, Mapping):
        for name, value in plain.items():
            yield from _leaves(f"{path}.{name}" if path else name, value)
    elif isinstance(plain, list) and any(isinstance(value, Mapping) for value in plain):
        for index, value in enumerate(plain):
            label = value.get("name", index) if isinstance(value, Mapping) else index
            yield from _leaves(f"{path}[{label}]", value)
    else:
        yield path, plain


def _worded(before: Mapping[str, Any], after: Mapping[str, Any], path: str) -> str:
    if path not in before:
        return f"{after[path]!r}, it was the default"
    return f"{before[path]!r} is now {repr(after[path]) if path in after else 'left at the default'}"
