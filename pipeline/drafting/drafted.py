"""A draft: the parts of a declaration, and what is said of how they were guessed.

Belongs here: what the text is made of. Not here: guessing (assembling.py), the text (writing.py).
"""

from dataclasses import dataclass, field
from pathlib import Path

from pipeline.drafting.syntax import Argument, Call


@dataclass(frozen=True)
class Guess:
    """One thing that was guessed, and why."""

    what: str
    guess: str
    why: str


@dataclass
class Draft:
    """A drafted declaration.

    Args:
        name: of the project. ``folder``: its ``EXFM_DATA``.
        seen: a sentence of how much was looked at.
        student_inputs, teacher_inputs: as models name them.
    """

    name: str
    folder: Path
    seen: str
    log: Call
    stream: Call
    views: list[Argument]
    student_inputs: list[Argument]
    teacher_inputs: list[Argument]
    teachers: list[Argument]
    students: list[Argument]
    left_out: dict[str, str] = field(default_factory=dict)
    guesses: list[Guess] = field(default_factory=list)
