"""Dagster's home: the committed one, or one written beside the state when ``EXFM_STATE`` moves it.

Belongs here: choosing and writing the home folder. ``exfm home`` prints it.
Not here: what Dagster keeps there.
"""

import json
import os
import re
from pathlib import Path

from exfm.atomic_write import write_text
from exfm.errors import DeclarationError
from exfm.state import ROOT, is_checkout, state_root

COMMITTED = ROOT / "dagster_home"
# Dagster finds its configuration by a pattern, and its SQLite files by a URL: with these it silently uses others.
_SPECIAL_CHARACTERS = re.compile(r"[?*\[]|%[0-9A-Fa-f]{2}")


def dagster_home() -> Path:
    """The folder for ``DAGSTER_HOME``.

    ``DAGSTER_HOME`` itself if set; the committed folder if state lies in its default place; else
    ``<EXFM_STATE>/dagster_home``, whose configuration is the committed one with its paths moved.

    Raises:
        DeclarationError: if the path has characters that would let Dagster write elsewhere.
        StateError: if the folder can't be written.
    """
    named = os.environ.get("DAGSTER_HOME", "").strip()
    if named:
        return Path(named).resolve()
    state = state_root()
    if match := _SPECIAL_CHARACTERS.search(str(state)):
        raise DeclarationError(
            f"EXFM_STATE: {str(state)!r} has {match[0]!r} in it, and Dagster would look for its files elsewhere: "
            "use another folder, or set DAGSTER_HOME to a folder with a dagster.yaml of your own"
        )
    if is_checkout() and state == ROOT / "data":
        return COMMITTED
    home = state / "dagster_home"
    write_text(home / "dagster.yaml", _moved((COMMITTED / "dagster.yaml").read_text(encoding="utf-8"), state))
    return home


def _moved(configuration: str, state: Path) -> str:
    """The committed configuration with its paths below ``state``, quoted as YAML wants any path to be."""

    def moved(match: re.Match[str]) -> str:
        return match[1] + json.dumps(f"{state}/{match[2]}", ensure_ascii=False)

    return re.sub(r"(?m)^(\s*base_dir: )data/(dagster\S*)$", moved, configuration)


if __name__ == "__main__":
    print(dagster_home())
