"""Feast's own command, whose UI calls the project what it is declared as: ``exfm feast [arguments of feast]``.

Belongs here: that name. Not here: what the UI shows of views and services (project_views.py).

All projects have one name in Feast, ``exfm``, for the embedded online store's tables are called after it, and the
``feast`` command knows no other.
"""

import sys
from typing import Any

from feast import ui_server
from feast.cli.cli import cli

from exfm.errors import DeclarationError
from exfm.load import load_project

_listed = ui_server._build_projects_list


def _named(store: Any, project_id: str, root_path: str) -> dict[str, list[dict[str, str]]]:
    """Feast's list of projects, ours under its declared name."""
    found: dict[str, list[dict[str, str]]] = _listed(store, project_id, root_path)
    declared = load_project().name
    for each in found["projects"]:
        if each["id"] == store.project:
            each |= {"name": declared, "description": f"The views and services that {declared} declares."}
    return found


def main() -> None:
    """Run Feast's command with the arguments of this process.

    Raises:
        SystemExit: with its status, 2 where no project can be loaded.
    """
    ui_server._build_projects_list = _named
    sys.argv[0] = "feast"
    try:
        cli()
    except DeclarationError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
