"""A draft as a file of Python.

Belongs here: the text. Not here: what it says (stream_drafted.py), how calls are laid out (syntax.py).
"""

import re
from pathlib import Path

import jinja2

from pipeline.drafting.drafted import Draft
from pipeline.drafting.slices import DAY, HOUR, MINUTE
from pipeline.drafting.syntax import Call, Node, Plain, call, comment, laid_out, listing

HERE = Path(__file__).parent
VOCABULARY = (
    "AuxiliaryHead", "Bag", "Column", "DCNv2", "EventTime", "FeatureView", "Files", "From", "Log", "Number", "Project",
    "Request", "SourceView", "Stream", "Student", "Task", "Teacher", "Vector",
)  # fmt: skip
UNITS = {"MINUTE": (MINUTE, "minutes"), "HOUR": (HOUR, "hours"), "DAY": (DAY, "days")}
MOST_LEFT_OUT = 60


def text_of_draft(draft: Draft) -> str:
    """The whole file, as ruff would format it."""
    body = {
        "log": _assigned("LOG", draft.log),
        "stream": _assigned("STREAM", draft.stream),
        "student_inputs": _assigned("SEEN_BY_STUDENTS", listing(draft.student_inputs)),
        "teacher_inputs": _assigned("SEEN_BY_TEACHERS", listing(draft.teacher_inputs)),
        "project": _assigned("PROJECT", _project(draft)),
    }
    said = "\n".join(body.values())
    template = jinja2.Template(
        (HERE / "draft.py.jinja").read_text(encoding="utf-8"), trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True,
    )  # fmt: skip
    text: str = template.render(
        title=_docstring(f"A draft of {draft.name}, written by `exfm draft`: the log in {draft.folder}."),
        seen=draft.seen,
        names=[name for name in VOCABULARY if re.search(rf"\b{name}\(", said)],
        units=_units(said),
        left_out=_left_out(draft),
        **body,
    )
    return text


def _docstring(text: str) -> str:
    plain = text.replace("\\", "/").replace('"', "'")
    return plain if len(plain) <= 110 else plain[:107] + "..."


def _assigned(name: str, node: Node) -> str:
    return laid_out(node, 0, len(name) + 3)


def _units(said: str) -> str:
    used = [name for name in UNITS if re.search(rf"\b{name}\b", said)]
    values = ", ".join(f"timedelta({UNITS[name][1]}=1)" for name in used)
    return f"{', '.join(used)} = {values}"


def _left_out(draft: Draft) -> list[str]:
    lines: list[str] = []
    for number, (name, why) in enumerate(draft.left_out.items()):
        if number == MOST_LEFT_OUT:
            lines += comment(f"- and {len(draft.left_out) - MOST_LEFT_OUT} more")
            break
        lines += comment(f"- {name}: {why}")
    return lines


def _project(draft: Draft) -> Call:
    return call(
        "Project",
        name=draft.name,
        stream=Plain("STREAM"),
        log=Plain("LOG"),
        feature_views=listing(draft.views),
        teachers=listing(draft.teachers),
        students=listing(draft.students),
    )
