"""The asset ``mlflow``: what is stored, mirrored in MLflow, where a project declares one.

Belongs here: when it is made and what its materialisation says. Not here: what is mirrored (pipeline/mirror/).

Nothing hangs on it, and a release is published before it: where MLflow is down, this asset alone fails.
"""

import dagster as dg

from exfm.project import Project
from exfm_assets import metadata_keys as keys
from exfm_assets.assets.releases import GATES
from exfm_assets.partitions import SINGLE_RUN
from pipeline.workspace import Workspace

MLFLOW = dg.AssetKey("mlflow")
LAST = {"dagster/priority": "-1"}


def mirror_assets(project: Project) -> list[dg.AssetsDefinition]:
    if (declared := project.mlflow) is None or not project.students:
        return []

    @dg.asset(
        key=MLFLOW,
        # After the gates, for Dagster skips what is below a refused release. Releases need no more than gates do, so
        # of the steps of a run this one comes last, by its priority.
        deps=[GATES],
        backfill_policy=SINGLE_RUN,
        group_name="upkeep",
        kinds={"mlflow"},
        op_tags=LAST,
    )
    def mlflow(context: dg.AssetExecutionContext, work: dg.ResourceParam[Workspace]) -> dg.MaterializeResult:
        """Runs, figures, releases and what serves, in MLflow's tracking and registry; nothing is read back from it."""
        from pipeline.mirror.sync import mirror

        left = mirror(work, declared)
        context.log.info(f"MLflow at {left.where}: {left.written} changes, {left.runs} runs, {left.versions} versions")
        serving = {f"serving/{model}": number for model, number in left.serving.items()}
        return dg.MaterializeResult(
            metadata={
                keys.URI: left.where, "experiment": left.experiment, "runs": left.runs, "versions": left.versions,
                "changes": left.written, **serving,
            }
        )  # fmt: skip

    return [mlflow]
