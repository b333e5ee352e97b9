"""The report asset: the status page, one self-contained HTML file.

Belongs here: when it is made and what its materialisation says. Not here: what it shows (report/).
"""

import dagster as dg

from exfm.project import Project
from exfm_assets import metadata_keys as keys
from exfm_assets.assets.releases import GATES
from exfm_assets.assets.students import DRIFT_REPORT
from exfm_assets.partitions import SINGLE_RUN
from pipeline.report import words
from pipeline.report.overview import overview_lines, overview_table
from pipeline.report.status import status_of
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
        kinds={"html", "vega"},
    )
    def report(context: dg.AssetExecutionContext, work: dg.ResourceParam[Workspace]) -> dg.MaterializeResult:
        """The status page: all students, worst first, what they stand on and cost, in one HTML file that loads nothing.

        Here is a line on each student, and its first table.
        """
        from pipeline.report.page import write_report

        path, status = write_report(work, context.run.run_id), status_of(work)
        counts = {f"{keys.STATUS}/{words.COLOURS[tone]}": count for tone, count in status.counts.items()}
        return dg.MaterializeResult(
            metadata={
                **{f"student/{name}": line for name, line in overview_lines(status).items()},
                "overview": dg.MetadataValue.md(overview_table(status)),
                **counts,
                "page": dg.MetadataValue.path(path),
                keys.URI: dg.MetadataValue.path(path),
                keys.ROW_COUNT: len(status.students),
            }
        )

    return [report]
