"""Where state lies: one folder, ``EXFM_STATE`` or ``data/`` beside the code, one sub-folder a project.

Belongs here: paths. Not here: reading or writing them.
"""

import os
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def state_root() -> Path:
    """The folder of all generated state: ``EXFM_STATE``, else ``data/`` at the top of the checkout."""
    return Path(os.environ.get("EXFM_STATE", "").strip() or ROOT / "data").expanduser().resolve()


@dataclass(frozen=True, kw_only=True)
class State:
    """The paths of one project's state.

    Args:
        folder: the project's own folder.
        log: the folder of the canonical log (``impressions/``, ``outcomes/``, ``interactions/``), read only
            unless the stream is simulated.
    """

    folder: Path
    log: Path

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

    @property
    def feast(self) -> Path:
        return self.folder / "feast"

    @property
    def reports(self) -> Path:
        return self.folder / "reports"
