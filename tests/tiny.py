"""A project small enough for a test: five short simulated slices, one teacher, two students.

Belongs here: the declaration, and a workspace in a folder of the test's own. Not here: running it.
"""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from exfm.distillation import AuxiliaryHead, LeadAware, StudentAdapter
from exfm.learning import Gate, Training
from exfm.networks import DCNv2
from exfm.project import Project
from exfm.simulation import Simulation
from exfm.state import State
from pipeline.workspace import Workspace
from projects import simulated

SLICES = 5


def tiny_project(**changes: object) -> Project:
    """The default project in small: 1,500 impressions a slice."""
    first = simulated.PROJECT.stream.first_slice
    network = DCNv2(embedding=4, cross=1, hidden=(8,))
    training = Training(batch_size=256)
    teacher = replace(
        simulated.PROJECT.teachers[0], network=DCNv2(embedding=4, cross=1, hidden=(16,), experts=2), training=training
    )
    distillations = (AuxiliaryHead(weight=2.0), AuxiliaryHead(weight=2.0, adapter=StudentAdapter()))
    students = tuple(
        replace(
            student,
            name=student.name.removesuffix("_both"),
            network=network,
            training=training,
            distillation=distillation,
            gate=Gate(tolerance=1.0, judged_rows=300, calibration=10.0, rows=300),
            lead=lead,
        )
        for student, distillation, lead in zip(
            (simulated.PROJECT.student("feed_click_both"), simulated.PROJECT.student("feed_convert")),
            distillations,
            (None, LeadAware(none_at=0.003, full_at=0.013, slices=2)),
            strict=True,
        )
    )
    history = simulated.PROJECT.view("user_history")
    beside = replace(history, source=("interactions", "click"), since=True)
    project = replace(
        simulated.PROJECT,
        name="tiny",
        feature_views=tuple(beside if view == history else view for view in simulated.PROJECT.feature_views),
        stream=replace(simulated.PROJECT.stream, until=first + SLICES * timedelta(days=1)),
        simulation=Simulation(
            impressions_per_day=1_500, users=200, items=60, new_users_per_day=20, new_items_per_day=6, orphan_share=0.02
        ),
        teachers=(teacher,),
        students=students,
    )
    return replace(project, **changes)  # type: ignore[arg-type]


def tiny_workspace(folder: Path, project: Project | None = None) -> Workspace:
    """The project's workspace with all state, its simulated log included, inside ``folder``."""
    chosen = project or tiny_project()
    state = folder / chosen.name
    return Workspace(chosen, State(folder=state, log=state / "log"))


# EXFM_PROJECT=tests.tiny:PROJECT runs it as a user's own project is run.
PROJECT = tiny_project()
