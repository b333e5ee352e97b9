"""Where state lies: one folder, ``EXFM_STATE``, or one that is made where the user is; one sub-folder a project.

Belongs here: paths. Not here: reading or writing them.
"""

import os
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent  # of the code: the top of a checkout, or where packages are installed


def is_checkout() -> bool:
    """Does the code lie in a checkout, not among installed packages?"""
    return (ROOT / "pyproject.toml").is_file()


def state_root() -> Path:
    """The folder of all generated state: ``EXFM_STATE``, else ``data/`` of a checkout, or ``exfm_data/`` here."""
    named = os.environ.get("EXFM_STATE", "").strip()
    default = ROOT / "data" if is_checkout() else Path("exfm_data")
    return Path(named or default).expanduser().resolve()


@dataclass(frozen=True, kw_only=True)
class State:
    """The paths of one project's state.

    Args:
        folder: the project's own folder.
        log: the folder of the canonical log (``impressions/``, ``outcomes/``, ``interactions/``), read only
            unless the stream is simulated, or ``Project.log`` says of which files it is made.
        files: the folder of what a user brings, never written: that of the log, or of the files that it is made of.
    """

    folder: Path
    log: Path
    files: Path | None = None

    @property
    def data(self) -> Path:
        """Where relative paths of a declaration begin."""
        return self.files or self.log

    def table(self, name: str) -> Path:
        """Folder of a sliced table: ``impressions``, ``outcomes``, ``interactions``, ``labels``, ``logged_inputs``."""
        return self.folder / "tables" / name

    def features(self, view: str) -> Path:
        return self.folder / "tables" / "features" / view

    def predictions(self, teacher: str) -> Path:
        return self.folder / "tables" / "predictions" / teacher

    def quarantine(self, name: str) -> Path:
        return self.folder / "quarantine" / name

    def checkpoints(self, model: str) -> Path:
        """Folder of a model's checkpoints: ``teacher/<name>``, ``student/<name>`` or ``control/<name>``."""
        return self.folder / "checkpoints" / model

    def release(self, student: str) -> Path:
        return self.folder / "releases" / student

    def evaluations(self, student: str) -> Path:
        return self.folder / "tables" / "evaluations" / student

    def takeover(self, teacher: str) -> Path:
        """What is known of a teacher that may take over from another."""
        return self.folder / "takeovers" / f"{teacher}.json"

    @property
    def requests(self) -> Path:
        """Folder of what was answered: a folder a student, a sub-folder a day."""
        return self.folder / "requests"

    @property
    def shadows(self) -> Path:
        """Folder of what shadows said of requests to other students: as ``requests``."""
        return self.folder / "shadows"

    @property
    def feast(self) -> Path:
        return self.folder / "feast"

    @property
    def reports(self) -> Path:
        return self.folder / "reports"
