"""``exfm serve``: what lies between releases and their server.

Belongs here: giving releases of an earlier exfm what a server needs. Not here: the server (serving/), which knows
nothing of torch.
"""

import os
import sys
import threading

from exfm.errors import DeclarationError
from exfm.load import load_project, load_state
from exfm.writing import StateError
from pipeline.releases.exporting import export_release, lacking_graphs
from pipeline.releases.items import refreshed, retrieving
from pipeline.report.vega import javascript, script_file
from pipeline.tables import DataError
from pipeline.workspace import Workspace
from serving.page import SCRIPT


def main(arguments: list[str]) -> int:
    """Complete releases, then serve; the server's exit status."""
    if not {"-h", "--help"} & set(arguments):
        try:
            project = load_project()
            complete(Workspace(project, load_state(project)))
        except (DeclarationError, StateError) as error:
            print(error, file=sys.stderr)
            return 2
        os.environ.setdefault(SCRIPT, str(script_file()))
        threading.Thread(target=javascript, daemon=True).start()  # takes seconds, once a version of it
    from serving.command import main as serve

    return serve(arguments)


def complete(work: Workspace) -> None:
    """Export what is served without a graph, write what is retrieved from; what can't be is said, and not served."""
    for student in lacking_graphs(work):
        try:
            export_release(work, student)
            print(f"student {student.name}: its release, of an earlier exfm, was exported for this server")
        except (DataError, ValueError) as error:
            print(f"student {student.name}: {error}", file=sys.stderr)
    for student in retrieving(work):
        print(f"student {student.name}: {refreshed(work, student)}")
