"""The wiring: one project's declaration as Dagster definitions. ``build_defs`` is for tests; Dagster reads ``defs``.

Belongs here: which assets, checks, jobs, sensors and resources there are. Not here: any of them.
"""

import dagster as dg

from exfm.load import load_project
from exfm_assets.assets.features import feature_assets
from exfm_assets.assets.mirror import mirror_assets
from exfm_assets.assets.predicted import predicted_assets
from exfm_assets.assets.releases import release_assets
from exfm_assets.assets.reports import report_assets
from exfm_assets.assets.stream import stream_assets
from exfm_assets.assets.students import student_assets
from exfm_assets.assets.studies import study_assets
from exfm_assets.assets.teachers import teacher_assets
from exfm_assets.automation import sensors
from exfm_assets.checks import checks
from exfm_assets.executor import one_process
from exfm_assets.jobs import asset_jobs
from exfm_assets.policies import with_policies
from exfm_assets.releases import release_jobs
from exfm_assets.withdraw import withdraw_jobs
from pipeline.workspace import Workspace


def build_defs(work: Workspace) -> dg.Definitions:
    """All assets, checks and automation of a workspace's project."""
    project = work.project
    assets = [
        *stream_assets(project),
        *feature_assets(project),
        *teacher_assets(project),
        *predicted_assets(project),
        *student_assets(project),
        *release_assets(project),
        *report_assets(project),
        *mirror_assets(project),
        *study_assets(project),
    ]
    return dg.Definitions(
        assets=with_policies(assets, work),
        asset_checks=checks(project),
        jobs=[*asset_jobs(project), *release_jobs(project), *withdraw_jobs(project)],
        sensors=sensors(work),
        resources={"work": work},
        executor=one_process,
    )


defs = build_defs(Workspace(load_project()))
