"""A released project whose first student has two towers; what the tests of retrieval share.

Belongs here: the declaration, and running it. Not here: what is asked of it.
"""

from dataclasses import replace
from pathlib import Path

from exfm.distillation import AuxiliaryHead
from exfm.networks import TwoTower
from exfm.project import Project
from pipeline.workspace import Workspace
from tests.tiny import tiny_project, tiny_workspace

FINDER, RANKER = "feed_find", "feed_click"
INPUTS = ("user_id", "item_id", "country", "hour_of_day", "item_activity", "item_opinion", "user_opinion")


def project_of(**changes: object) -> Project:
    """The tiny project, with one more student."""
    tiny = tiny_project()
    finder = replace(
        tiny.student(RANKER), name=FINDER, network=TwoTower(embedding=4, hidden=(16, 8)), inputs=INPUTS,
        distillation=AuxiliaryHead(weight=2.0),
    )  # fmt: skip
    return replace(tiny, name="towers", students=(replace(finder, **changes), *tiny.students))  # type: ignore[arg-type]


def run_in(folder: Path) -> Workspace:
    """It, after its main job."""
    from tests.graph.runs import run

    work = tiny_workspace(folder, project_of())
    run(work)
    return work
