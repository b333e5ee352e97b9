"""Jobs with names that a person looks for in the UI: the same assets as the automation asks for, by hand.

Belongs here: selections under a name. Not here: jobs that decide something (releases.py, withdraw.py).
"""

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from exfm.project import Project
from exfm_assets.assets.releases import GATES
from exfm_assets.assets.students import PARTS, PROGRESS, student_key
from exfm_assets.assets.studies import GROUP as STUDIES
from exfm_assets.assets.teachers import PREDICTIONS, teacher_key


def asset_jobs(project: Project) -> list[UnresolvedAssetJobDefinition]:
    """``catch_up``, ``retrain_teachers``, ``train_students`` and ``release``, as far as there is something to do."""
    jobs = [
        dg.define_asset_job(
            "catch_up",
            dg.AssetSelection.all() - dg.AssetSelection.groups(STUDIES),
            description="Everything over some slices: what stands is kept, what is missing or out of date is made.",
        )
    ]
    if project.teachers:
        keys = [teacher_key(teacher, part) for teacher in project.teachers for part in ("checkpoint", PREDICTIONS)]
        words = "Teachers over some slices: each is scored before it is learnt."
        jobs.append(dg.define_asset_job("retrain_teachers", dg.AssetSelection.assets(*keys), description=words))
    if project.students:
        keys = [student_key(student, part) for student in project.students for part in PARTS]
        words = "Students, their controls and evaluations over some slices: uncheck those that are not meant."
        jobs.append(dg.define_asset_job("train_students", dg.AssetSelection.assets(*keys, PROGRESS), description=words))
        keys = [*(student_key(student, "release") for student in project.students), GATES]
        words = "Judge each student's candidate, and release those that pass."
        jobs.append(dg.define_asset_job("release", dg.AssetSelection.assets(*keys), description=words))
    return jobs
