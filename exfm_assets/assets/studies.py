"""Studies: assets that replay the whole stream to answer a question; made by hand, not part of the daily run.

Belongs here: when they are made and what they show. Not here: the replays (pipeline/studies/teacher_lag_study.py).
"""

import dagster as dg
import polars as pl

from exfm.project import Project
from exfm_assets import metadata_keys as keys
from exfm_assets.assets.features import LOGGED_INPUTS
from exfm_assets.assets.predicted import LOGGED_TEACHER_FEATURES
from exfm_assets.assets.stream import LABELS
from exfm_assets.partitions import SINGLE_RUN
from pipeline.report.plots import draw_lines, in_markdown
from pipeline.sidecar import write_stored
from pipeline.workspace import Workspace

FRESHNESS_COST = dg.AssetKey("freshness_cost")
GROUP = "studies"


def study_assets(project: Project) -> list[dg.AssetsDefinition]:
    if not any(student.is_taught for student in project.students):
        return []
    teacher_features = [LOGGED_TEACHER_FEATURES] if project.teacher_feature_columns.features else []

    @dg.asset(
        key=FRESHNESS_COST,
        deps=[LOGGED_INPUTS, LABELS, *teacher_features],
        backfill_policy=SINGLE_RUN,
        group_name=GROUP,
        kinds={"torch", "matplotlib"},
        pool="gpu",
    )
    def freshness_cost(context: dg.AssetExecutionContext, work: dg.ResourceParam[Workspace]) -> dg.MaterializeResult:
        """NE of each teacher and its students when the teacher's snapshot lags 1, 2, 4, 8, 16 slices behind."""
        from pipeline.studies import teacher_lag_study

        tables = []
        for table in teacher_lag_study.teacher_lag_study(work, work.device):
            tables.append(table)
            for row in table.iter_rows(named=True):
                template = "{student}, lag {lag}: NE of teacher {ne_teacher:.4f}, of student {ne_student:.4f}"
                context.log.info(template.format(**row))
        rows = pl.concat(tables) if tables else pl.DataFrame(schema=teacher_lag_study.SCHEMA)
        if not rows.height:
            context.log.warning("freshness_cost: too few slices are stored to compare lags: materialise three or more")
        path = work.state.reports / "freshness_cost.parquet"
        write_stored(rows, path)
        return dg.MaterializeResult(
            metadata={
                keys.ROW_COUNT: rows.height,
                keys.URI: dg.MetadataValue.path(path),
                "by lag": dg.MetadataValue.md(_table(rows)),
                "plot": dg.MetadataValue.md(_plots(rows)),
            }
        )

    return [freshness_cost]


def _table(rows: pl.DataFrame) -> str:
    lines = ["| student | lag | NE teacher | NE student | NE control | slices |", "|---|---|---|---|---|---|"]
    template = "| {student} | {lag} | {ne_teacher:.4f} | {ne_student:.4f} | {ne_control:.4f} | {slices} |"
    return "\n".join([*lines, *(template.format(**row) for row in rows.iter_rows(named=True))])


def _plots(rows: pl.DataFrame) -> str:
    images = []
    for (name,), student_rows in rows.sort("lag").group_by("student", maintain_order=True):
        lines = {model: student_rows[f"ne_{model}"].to_list() for model in ("teacher", "student", "control")}
        png = draw_lines(student_rows["lag"].to_list(), lines, f"{name}: NE against the teacher's lag", "slices of lag")
        images.append(in_markdown(png, name))
    return "\n\n".join(images) or "no student was judged with every lag: more slices are needed"
