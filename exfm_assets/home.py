"""Dagster's home: the committed one, or one written beside the state when ``EXFM_STATE`` moves it.

Belongs here: choosing and writing the home folder. ``python -m exfm_assets.home`` prints it.
Not here: what Dagster keeps there.
"""

import os
from pathlib import Path

from projects.aside import whole_file
from projects.state import ROOT, state_root

COMMITTED = ROOT / "dagster_home"


def dagster_home() -> Path:
    """The folder for ``DAGSTER_HOME``.

    ``DAGSTER_HOME`` itself if set; the committed folder if state lies in its default place; else
    ``<EXFM_STATE>/dagster_home``, whose configuration is the committed one with its paths moved.
    """
    named = os.environ.get("DAGSTER_HOME", "").strip()
    if named:
        return Path(named).resolve()
    state = state_root()
    if state == ROOT / "data":
        return COMMITTED
    home = state / "dagster_home"
    moved = (COMMITTED / "dagster.yaml").read_text(encoding="utf-8").replace("data/dagster", f"{state}/dagster")
    with whole_file(home / "dagster.yaml") as file:
        file.write(moved.encode())
    return home


if __name__ == "__main__":
    print(dagster_home())
