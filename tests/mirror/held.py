"""What an MLflow store holds, as its own client tells.

Belongs here: reading it. Not here: what a test expects.
"""

from typing import Any

from exfm.mlflow import MLflow

MODEL = "tiny.feed_click"


class Held:
    """What MLflow holds, as its own client tells."""

    def __init__(self, declared: MLflow) -> None:
        from mlflow import MlflowClient

        self.client = MlflowClient(tracking_uri=declared.tracking_uri, registry_uri=declared.tracking_uri)
        self.experiment = declared.experiment or "tiny"

    def runs(self) -> dict[str, Any]:
        experiment = self.client.get_experiment_by_name(self.experiment)
        found = self.client.search_runs([experiment.experiment_id]) if experiment else []
        assert len({run.data.tags["exfm.key"] for run in found}) == len(found)
        return {run.data.tags["exfm.key"]: run for run in found}

    def versions(self, model: str = MODEL) -> dict[int, Any]:
        found = self.client.search_model_versions(f"name='{model}'")
        return {int(version.version): version for version in found}

    def aliases(self, model: str = MODEL) -> dict[str, int]:
        return {name: int(version) for name, version in self.client.get_registered_model(model).aliases.items()}

    def whole(self, *models: str) -> dict[str, Any]:
        """All of it, but for ids that MLflow gave and moments at which it was asked."""
        runs = self.runs()
        key_of = {run.info.run_id: key for key, run in runs.items()}
        told: dict[str, Any] = {}
        for key, run in runs.items():
            points = [
                (name, metric.step, metric.value, metric.timestamp)
                for name in sorted(run.data.metrics)
                for metric in self.client.get_metric_history(run.info.run_id, name)
            ]
            tags = {name: key_of.get(value, value) for name, value in run.data.tags.items()}
            told[key] = (run.info.run_name, run.info.status, run.info.start_time, tags, run.data.params, points)
        for model in models:
            found = self.client.get_registered_model(model)
            told[model] = (found.description, found.tags, found.aliases)
            for number, version in self.versions(model).items():
                told[f"{model} {number}"] = (
                    version.source, version.description, version.tags, key_of[version.run_id], version.aliases
                )  # fmt: skip
        return told
