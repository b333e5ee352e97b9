"""The status as a Markdown table, for the Overview of the report asset: the rows of ``exfm status``.

Belongs here: columns and their words. Not here: gathering (status.py), the page (page.py).
"""

from pipeline.report import words
from pipeline.report.status import Status, StudentStatus


def overview_table(status: Status) -> str:
    """One row a student, worst first, then a line on each thing that they stand on, and the notes."""
    lines = [
        "| student | serves | age of its data | NE | gain | calibration | drift | gate | next refresh |",
        "|---|---|---:|---:|---:|---:|---|---|---|",
        *(_row(student) for student in status.students),
        "",
        *(f"- {_marked(tone)} {_in_line(said)}" for tone, said in status.others),
        *(f"- {_in_line(note)}" for note in status.notes),
    ]
    return "\n".join(lines)


def overview_lines(status: Status) -> dict[str, str]:
    """A short line a student, worst first: what Dagster shows without a click."""
    return {student.name: _line(student) for student in status.students}


def _line(student: StudentStatus) -> str:
    figures = student.figures
    serves = f"serves {figures.version}, data {words.age(figures.age)} old" if figures.version else "nothing serves"
    gain = "" if figures.gain is None else f" {words.gain(figures.gain, figures.gain_error)}:"
    drift = {None: "drift not looked at", True: "drifted", False: "no drift"}[figures.drifted]
    gate = "held by a person" if figures.held else figures.outcome
    return (
        f"{_marked(student.shown)}: {serves}; NE {words.figure(figures.ne)}, gain{gain} {figures.gain_says}; {drift}; "
        f"gate: {gate}; {student.next}"
    )


def _row(student: StudentStatus) -> str:
    figures = student.figures
    gain = "" if figures.gain is None else f"{words.gain(figures.gain, figures.gain_error)}, "
    cells = (
        f"{_marked(student.shown)} {student.name}",
        figures.version or "nothing",
        words.age(figures.age),
        words.figure(figures.ne),
        f"{gain}{figures.gain_says}",
        words.figure(figures.calibration),
        student.drift,
        student.gate,
        student.next,
    )
    return "| " + " | ".join(_in_line(cell) for cell in cells) + " |"


def _marked(tone: str) -> str:
    return f"{words.SIGNS[tone]} {words.COLOURS[tone]}"


def _in_line(text: str) -> str:
    """Reasons may hold what a person or the log wrote."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
