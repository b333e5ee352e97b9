"""The report asset: one self-contained HTML file.

Belongs here: when it is made and what its materialisation says. Not here: what it shows (report/).
"""

import dagster as dg

from exfm.project import Project
from exfm_assets import metadata_keys as keys
from exfm_assets.assets.releases import GATES
from exfm_assets.assets.students import DRIFT_REPORT
from exfm_assets.partitions import SINGLE_RUN
from pipeline.evaluation.summary import summary
from pipeline.workspace import Workspace

REPORT = dg.AssetKey("report")


def report_assets(project: Project) -> list[dg.AssetsDefinition]:
    if not project.students:
        return []

    @dg.asset(
        key=REPORT,
        # After the gates, which are there also where a release was refused; Dagster skips what is below a refused one.
        deps=[GATES, DRIFT_REPORT],
        backfill_policy=SINGLE_RUN,
        group_name="upkeep",
        kinds={"html", "matplotlib"},
    )
    def report(context: dg.AssetExecutionContext, work: dg.ResourceParam[Workspace]) -> dg.MaterializeResult:
        """Teacher, student and control over all slices: tables and plots in one HTML file that needs nothing else."""
        from pipeline.report.page import write_report

        path = write_report(work)
        rows = summary(work)
        return dg.MaterializeResult(metadata={keys.URI: dg.MetadataValue.path(path), keys.ROW_COUNT: rows.height})

    return [report]
