"""Dagster's UI and daemon with the project's home: ``exfm ui [arguments of dagster dev]``.

Belongs here: what ``make ui`` becomes. Not here: where the home is (home.py).
"""

import os
import signal
import sys
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from exfm.errors import DeclarationError
from exfm.load import for_children
from exfm.state import ROOT, is_checkout
from exfm.writing import StateError
from exfm_assets.home import dagster_home


def main(arguments: list[str]) -> int:
    """Become ``dagster dev``; the exit status where that can't be."""
    try:
        os.environ.update({"DAGSTER_HOME": str(dagster_home()), **for_children()})
        # A tick of the automation looks at all that is stored; Dagster's own limit is a minute.
        os.environ.setdefault("DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS", "300")
    except (DeclarationError, StateError) as error:
        Console(highlight=False, soft_wrap=True).print(f"[red]{escape(str(error))}[/red]")
        return 2
    # A shell starts what it puts in the background with Ctrl-C ignored. Dagster hands SIGTERM to the same handler, and
    # so would its children: nothing short of kill -9 would end them.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    os.chdir(ROOT)  # the committed home's paths are relative to it
    executable = str(Path(sys.executable).parent / "dagster")
    code = [] if is_checkout() else ["-m", "exfm_assets.definitions"]  # a checkout's pyproject.toml says it
    os.execv(executable, [executable, "dev", *code, *arguments])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
