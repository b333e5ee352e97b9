"""Studies: assets that replay the whole stream to answer a question; made by hand, not part of the daily run.

Belongs here: when they are made and what they show. Not here: the replays (pipeline/studies/teacher_lag_study.py).
"""

from collections.abc import Iterable

import dagster as dg
import polars as pl

from exfm.project import Project
from exfm_assets import metadata_keys as keys
from exfm_assets.assets.features import LOGGED_INPUTS
from exfm_assets.assets.predicted import LOGGED_TEACHER_FEATURES
from exfm_assets.assets.stream import LABELS
from exfm_assets.partitions import SINGLE_RUN
from pipeline.report.plots import lag_plot
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
        kinds={"torch", "vega"},
        pool="gpu",
    )
    def freshness_cost(context: dg.AssetExecutionContext, work: dg.ResourceParam[Workspace]) -> dg.MaterializeResult:
        """What age costs: NE of teachers' snapshots and of students that lag behind, beside what is declared.

        Teachers' snapshots lag 1, 2, 4, 8, 16 slices, students' refreshes wait 0, 1, 2, 4, 8.
        """
        from pipeline.studies.freshness_worth import advice
        from pipeline.studies.student_refresh_study import SCHEMA as REFRESH_SCHEMA
        from pipeline.studies.student_refresh_study import student_refresh_study
        from pipeline.studies.teacher_lag_study import SCHEMA, teacher_lag_study

        template = "{student}, lag {lag}: NE of teacher {ne_teacher:.4f}, of student {ne_student:.4f}"
        by_lag = _gathered(context, teacher_lag_study(work, work.device), SCHEMA, template)
        template = "{student}, refreshed {behind} slices late: NE {ne:.4f}, {loss:+.2%}"
        by_refresh = _gathered(context, student_refresh_study(work, work.device), REFRESH_SCHEMA, template)
        if not by_lag.height:
            context.log.warning("freshness_cost: too few slices are stored to compare lags: materialise three or more")
        path = work.state.reports / "freshness_cost.parquet"
        write_stored(by_lag, path)
        write_stored(by_refresh, work.state.reports / "refresh_cost.parquet")
        advised = advice(work, by_lag, by_refresh)
        for each in advised:
            (context.log.warning if each.disagrees else context.log.info)(each.says)
        words = "\n".join(f"- {'**' + each.verdict + '**: ' if each.disagrees else ''}{each.says}" for each in advised)
        return dg.MaterializeResult(
            metadata={
                keys.ROW_COUNT: by_lag.height,
                keys.URI: dg.MetadataValue.path(path),
                "advice": dg.MetadataValue.md(words or "nothing was measured"),
                "disagreements": sum(each.disagrees for each in advised),
                "by lag": dg.MetadataValue.md(_table(by_lag)),
                "by refresh": dg.MetadataValue.md(_refresh_table(by_refresh)),
                "plot": dg.MetadataValue.md(_plots(by_lag)),
            }
        )

    return [freshness_cost]


def _gathered(
    context: dg.AssetExecutionContext, tables: Iterable[pl.DataFrame], schema: dict[str, pl.DataType], template: str
) -> pl.DataFrame:
    """All tables as one; each row is said as it comes."""
    gathered = []
    for table in tables:
        gathered.append(table)
        for row in table.iter_rows(named=True):
            context.log.info(template.format(**row))
    return pl.concat(gathered) if gathered else pl.DataFrame(schema=schema)


def _refresh_table(rows: pl.DataFrame) -> str:
    lines = ["| student | slices late | NE | loss | ± | slices |", "|---|---|---|---|---|---|"]
    template = "| {student} | {behind} | {ne:.4f} | {loss:+.2%} | {error:.2%} | {slices} |"
    return "\n".join([*lines, *(template.format(**row) for row in rows.iter_rows(named=True))])


def _table(rows: pl.DataFrame) -> str:
    lines = ["| student | lag | NE teacher | NE student | NE control | slices |", "|---|---|---|---|---|---|"]
    template = "| {student} | {lag} | {ne_teacher:.4f} | {ne_student:.4f} | {ne_control:.4f} | {slices} |"
    return "\n".join([*lines, *(template.format(**row) for row in rows.iter_rows(named=True))])


def _plots(rows: pl.DataFrame) -> str:
    images = []
    for (name,), student_rows in rows.sort("lag").group_by("student", maintain_order=True):
        lines = {model: student_rows[f"ne_{model}"].to_list() for model in ("teacher", "student", "control")}
        images.append(lag_plot(str(name), student_rows["lag"].to_list(), lines))
    return "\n\n".join(images) or "no student was judged with every lag: more slices are needed"
