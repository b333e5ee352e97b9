"""The command ``exfm``: everything a person types, from any folder.

Belongs here: which commands there are, and where they find projects. Not here: what each does.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

HELP = """exfm: one large teacher, its predictions kept in Feast, many small students.

    exfm run [--range A...B] [--student NAME | --select SELECTION] [--quiet]
                                                                     the main job: everything over a range of slices
    exfm draft FILE_OR_FOLDER [...] [--to FILE.py] [--name NAME]     a first declaration for a log of any files
    exfm import [--check] [--forget FILE]                            the files that Project.log names, read in
    exfm quarantine [TABLE] [--to FILE | --mend FILE]                rows of the log that were refused, and mended
    exfm ui [arguments of dagster dev]                               Dagster's UI and daemon, automation on
    exfm serve [--port N] [--workers N]                              answer requests with the released students
    exfm live [--drift] [--fresh] [--minutes N]                      a simulated crowd that asks them, all kept current
    exfm status                                                      what serves, how old, how good, what is next
    exfm alerts [--send]                                             what needs a person now; a test of the webhook
    exfm releases list|show|compare|promote|rollback|unpin           what serves, what served, and going back
    exfm withdraw [MODEL CHECKPOINT --why ...]                       take back what a model learnt of a slice
    exfm predictions [--teacher NAME] [--slice KEY] [--rows N]       a teacher's predictions, read through Feast
    exfm bars NAME [--data FOLDER] [--model NAME] [--seed N]         a network on a public set, beside published figures
    exfm feast [arguments of feast]                                  Feast's command in this project's feature repo
    exfm home                                                        where Dagster's home is (DAGSTER_HOME)
    exfm version

For example: exfm run --range 2026-01-01...2026-01-04. Each command has --help.

EXFM_PROJECT says which project: a name, module:PROJECT or path/to/file.py (default: simulated).
EXFM_DATA says where its log is, EXFM_STATE where all that is made lies (default: ./exfm_data, in a checkout data/).
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command, and give its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    name, rest = (given[0], given[1:]) if given else ("help", [])
    if name in ("help", "-h", "--help"):
        print(HELP, end="")
        return 0
    if name not in COMMANDS:
        print(f"exfm: {name!r} is no command: use one of {', '.join([*COMMANDS, 'help'])}", file=sys.stderr)
        return 2
    os.environ.setdefault("EXFM_PROJECT_PATH", str(Path.cwd()))  # where module:PROJECT may lie, for children too
    return COMMANDS[name](rest)


def console() -> NoReturn:
    """The command as it is installed."""
    status = main()
    from exfm_assets.ready_process import leave

    leave(status)


def _run(arguments: list[str]) -> int:
    from exfm_assets.live_children import end_with_parent
    from exfm_assets.main_job import main
    from exfm_assets.ready_process import collect_seldom

    end_with_parent()
    collect_seldom()
    return main(arguments)


def _draft(arguments: list[str]) -> int:
    from exfm_assets.draft import main

    return main(arguments)


def _import(arguments: list[str]) -> int:
    from exfm_assets.imports import main

    return main(arguments)


def _quarantine(arguments: list[str]) -> int:
    from exfm_assets.quarantine import main

    return main(arguments)


def _ui(arguments: list[str]) -> int:
    from exfm_assets.live_children import end_with_parent
    from exfm_assets.ui import main

    end_with_parent()

    return main(arguments)


def _predictions(arguments: list[str]) -> int:
    from pipeline.report.show_predictions import main

    return main(arguments)


def _releases(arguments: list[str]) -> int:
    from exfm_assets.releases import main

    return main(arguments)


def _serve(arguments: list[str]) -> int:
    from exfm_assets.live_children import end_with_parent
    from exfm_assets.serve import main

    end_with_parent()
    return main(arguments)


def _live(arguments: list[str]) -> int:
    from exfm_assets.live import main

    return main(arguments)


def _status(arguments: list[str]) -> int:
    from exfm_assets.status import main

    return main(arguments)


def _alerts(arguments: list[str]) -> int:
    from exfm_assets.alerts.command import main

    return main(arguments)


def _withdraw(arguments: list[str]) -> int:
    from exfm_assets.withdraw import main

    return main(arguments)


def _bars(arguments: list[str]) -> int:
    from exfm_assets.bars import main

    return main(arguments)


def _feast(arguments: list[str]) -> int:
    from exfm.state import ROOT

    command = [sys.executable, "-m", "feature_repo.feast_command", "-c", str(ROOT / "feature_repo"), *arguments]
    with subprocess.Popen(command) as process:
        # `feast serve` and `feast ui` go on until they are told to end: who ends this process means them.
        before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        try:
            return process.wait()
        except KeyboardInterrupt:  # which the terminal gave to both
            return process.wait()
        finally:
            signal.signal(signal.SIGTERM, before)


def _home(arguments: list[str]) -> int:
    from exfm_assets.home import dagster_home

    print(dagster_home())
    return 0


def _version(arguments: list[str]) -> int:
    print(version("exfm"))
    return 0


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "run": _run,
    "draft": _draft,
    "import": _import,
    "quarantine": _quarantine,
    "ui": _ui,
    "serve": _serve,
    "live": _live,
    "status": _status,
    "alerts": _alerts,
    "releases": _releases,
    "withdraw": _withdraw,
    "predictions": _predictions,
    "bars": _bars,
    "feast": _feast,
    "home": _home,
    "version": _version,
}


if __name__ == "__main__":
    console()
