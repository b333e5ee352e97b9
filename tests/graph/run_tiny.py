"""A process that runs the tiny project and, if told so, kills itself just before something becomes visible.

    python -m tests.graph.run_tiny FOLDER [TEXT NUMBER]

``kill -9`` comes when the NUMBERth path that holds TEXT is about to be put in place.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from tests.graph.runs import run
from tests.tiny import tiny_workspace


def kill_before(text: str, number: int) -> None:
    """Let renames into place through until the one that is asked for."""
    left = [number]

    def watched(rename: Any) -> Any:
        def renaming(path: Path, target: Path) -> Path:
            if text in str(target):
                left[0] -= 1
                if not left[0]:
                    os.kill(os.getpid(), signal.SIGKILL)
            moved: Path = rename(path, target)
            return moved

        return renaming

    Path.replace, Path.rename = watched(Path.replace), watched(Path.rename)  # type: ignore[method-assign]


if __name__ == "__main__":
    if len(sys.argv) > 2:
        kill_before(sys.argv[2], int(sys.argv[3]))
    sys.exit(0 if run(tiny_workspace(Path(sys.argv[1]))).success else 1)
