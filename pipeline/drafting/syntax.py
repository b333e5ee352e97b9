"""Python as ``ruff format`` lays it out: calls and tuples on one line where they fit in, else one argument a line.

Belongs here: laying out. Not here: what is said (assembling.py).
"""

import re
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass, field

WIDTH = 120


@dataclass(frozen=True)
class Plain:
    """An expression that is not broken: a name, a number, a generator."""

    text: str


@dataclass(frozen=True)
class Argument:
    """An argument or an element, with the comment above it."""

    value: "Node"
    name: str | None = None
    note: str | None = None


@dataclass(frozen=True)
class Call:
    """A call, or with an empty ``name`` a tuple."""

    name: str
    arguments: tuple[Argument, ...] = field(default=())


Node = Plain | Call | str


def text_of(value: str) -> str:
    """A text as Python has it, in the quotes that ruff prefers."""
    shown = repr(value)
    if shown[0] == '"' or value.count('"') > value.count("'"):
        return shown
    return '"' + shown[1:-1].replace("\\'", "'").replace('"', '\\"') + '"'


def call(name: str, /, *values: Node | Argument, **named: object) -> Call:
    """A call; arguments that are ``None`` are left out."""
    listed = [value if isinstance(value, Argument) else Argument(value) for value in values]
    for key, value in named.items():
        if value is not None:
            listed.append(value if isinstance(value, Argument) else Argument(_node(value), key))
    return Call(name, tuple(listed))


def listing(values: Iterable[Node | Argument]) -> Call:
    """A tuple."""
    return Call("", tuple(value if isinstance(value, Argument) else Argument(value) for value in values))


def _node(value: object) -> "Node":
    if isinstance(value, Plain | Call | str):
        return value
    return Plain(value.__name__ if isinstance(value, type) else repr(value))


def one_line(node: Node) -> str | None:
    """A node on one line; ``None`` where a comment stands in it."""
    if isinstance(node, str):
        return text_of(node)
    if isinstance(node, Plain):
        return node.text
    parts = []
    for argument in node.arguments:
        line = one_line(argument.value)
        if line is None or argument.note is not None:
            return None
        parts.append(line if argument.name is None else f"{argument.name}={line}")
    last = "," if not node.name and len(parts) == 1 else ""
    return f"{node.name}({', '.join(parts)}{last})"


def laid_out(node: Node, indent: int = 0, before: int = 0, after: int = 0) -> str:
    """A node as text.

    Args:
        indent: blanks before what goes on below; ``before``, ``after``: characters on its first and last line.
    """
    line = one_line(node)
    if line is not None and before + len(line) + after <= WIDTH:
        return line
    if isinstance(node, str):
        return _broken(node, indent)
    if isinstance(node, Plain):
        return node.text
    lines = [f"{node.name}("]
    inside = " " * (indent + 4)
    for argument in node.arguments:
        if argument.note is not None:
            lines += comment(argument.note, indent + 4)
        start = inside + (f"{argument.name}=" if argument.name is not None else "")
        lines.append(f"{start}{laid_out(argument.value, indent + 4, len(start), 1)},")
    return "\n".join([*lines, " " * indent + ")"])


def _broken(value: str, indent: int) -> str:
    """A text that no line can hold, in parts."""
    inside, size = " " * (indent + 4), WIDTH - indent - 24
    parts = [""]
    for word in re.split(r"(?<= )", value):
        while len(word) > size:
            parts.append(word[:size])
            word = word[size:]
        if len(parts[-1]) + len(word) > size:
            parts.append("")
        parts[-1] += word
    return "\n".join(["(", *(inside + text_of(part) for part in parts if part), " " * indent + ")"])


def comment(text: str, indent: int = 0) -> list[str]:
    """A comment, in lines that fit in."""
    return [
        f"{' ' * indent}# {line}".rstrip()
        for line in textwrap.wrap(" ".join(text.split()), WIDTH - indent - 2, break_on_hyphens=False)
    ]
