"""A draft of a folder, loaded as a project, and its log read in.

Belongs here: one way to draft in a test. Not here: what a test expects.
"""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from exfm.load import load_project
from exfm.project import Project
from exfm.state import State
from pipeline.drafting.assembling import draft_of
from pipeline.drafting.drafted import Draft
from pipeline.drafting.writing import text_of_draft
from pipeline.imports.run import Account, import_log
from pipeline.workspace import Workspace

RUFF = Path(sys.executable).parent / "ruff"
RULES = ("--isolated", "--no-cache", "--line-length=120", "--target-version=py311")


@dataclass(frozen=True)
class Drafted:
    """A draft, written and loaded."""

    draft: Draft
    file: Path
    project: Project
    folder: Path

    @property
    def text(self) -> str:
        return self.file.read_text(encoding="utf-8")

    def why(self, what: str) -> str:
        """All that was said of one thing."""
        return "\n".join(f"{each.guess}: {each.why}" for each in self.draft.guesses if each.what == what)

    def workspace(self, state: Path) -> Workspace:
        return Workspace(self.project, State(folder=state, log=state / "log", files=self.draft.folder))

    def imported(self, state: Path) -> Account:
        """The account of its log, read in."""
        return import_log(self.workspace(state))


def drafted(folder: Path, to: Path, *given: Path) -> Drafted:
    """Draft a folder, or some paths."""
    draft = draft_of(list(given) or [folder])
    to.mkdir(parents=True, exist_ok=True)
    file = to / f"{draft.name}_draft.py"
    file.write_text(text_of_draft(draft), encoding="utf-8")
    return Drafted(draft, file, load_project(str(file)), folder)


def complaints(file: Path) -> str:
    """What ruff says of a file."""
    checked = subprocess.run(
        [RUFF, "check", *RULES, "--select=E,F,I,B,UP,SIM", file], capture_output=True, text=True, check=False
    )
    formatted = subprocess.run([RUFF, "format", *RULES, "--diff", file], capture_output=True, text=True, check=False)
    said = (checked.stdout if checked.returncode else "") + (formatted.stdout if formatted.returncode else "")
    return said + (checked.stderr if checked.returncode > 1 else "")
