"""Policies: which asset has which automation condition and freshness policy.

Belongs here: one table over the asset graph. Not here: the conditions (automation.py), what an asset does (assets/).
"""

from collections.abc import Iterable

import dagster as dg

from exfm.freshness import Limits
from exfm.project import Project
from exfm_assets.assets.features import ONLINE, REGISTRY
from exfm_assets.assets.imported import IMPORTED_LOG
from exfm_assets.assets.mirror import MLFLOW
from exfm_assets.assets.releases import GATES, judged_on
from exfm_assets.assets.reports import REPORT
from exfm_assets.assets.stream import LABELS
from exfm_assets.assets.students import DRIFT_REPORT, PROGRESS, student_key
from exfm_assets.assets.studies import GROUP as STUDIES
from exfm_assets.assets.teachers import TAKEOVER
from exfm_assets.automation import Automation
from pipeline.workspace import Workspace


def with_policies(assets: Iterable[dg.AssetsDefinition], work: Workspace) -> list[dg.AssetsDefinition]:
    """The same assets, each with its policies."""
    automation = Automation(work)

    def with_its(spec: dg.AssetSpec) -> dg.AssetSpec:
        condition = condition_of(automation, spec)
        limits = limits_of(work.project, spec.key)
        return spec.replace_attributes(
            automation_condition=condition if condition is not None else ...,
            freshness_policy=_policy(limits) if limits is not None else ...,
            owners=list(work.project.owners) or ...,
        )

    return [mapped for mapped in dg.map_asset_specs(with_its, assets) if isinstance(mapped, dg.AssetsDefinition)]


def condition_of(automation: Automation, spec: dg.AssetSpec) -> dg.AutomationCondition | None:
    """What asks for an asset; ``None`` if nothing but a person does."""
    kind, name, part = (*spec.key.path, "", "")[:3]
    project = automation.work.project
    if spec.group_name == STUDIES:
        return None
    if spec.key == REGISTRY:
        return automation.on_change()
    if spec.key == IMPORTED_LOG:
        return automation.read_in()
    if spec.key in (ONLINE, REPORT):
        return automation.follow()
    if spec.key == MLFLOW:
        return automation.mirror([student_key(student, "release") for student in project.students])
    if spec.key in (GATES, DRIFT_REPORT):
        return automation.follow(dg.AssetSelection.assets(*judged_on(project, *project.students)))
    if spec.key == PROGRESS:
        return automation.ride_along()
    if spec.key == LABELS:
        return automation.keep_labels()
    if kind == "teacher" and part == TAKEOVER:
        return automation.follow(dg.AssetSelection.assets(LABELS))
    if kind == "teacher" and part == "checkpoint":
        return automation.keep_trained(spec.key)
    if kind == "student":
        student = project.student(name)
        checkpoint, control = student_key(student, "student"), student_key(student, "control")
        if part == "release":
            return automation.follow_once(dg.AssetSelection.assets(*judged_on(project, student)))
        if part == "evaluation":
            return automation.judge_what_served(student, checkpoint, control)
        return automation.refresh_student(student, spec.key)
    return automation.keep_current()


def limits_of(project: Project, key: dg.AssetKey) -> Limits | None:
    """How old the data behind an asset may be; ``None`` where nothing is promised."""
    kind, name, part = (*key.path, "", "")[:3]
    if key == LABELS:
        return project.labels_limits
    if key == ONLINE:
        return project.online_limits
    if kind == "teacher" and part != TAKEOVER:
        teacher = project.teacher(name)
        return project.checkpoint_limits(teacher) if part == "checkpoint" else project.predictions_limits(teacher)
    return project.release_limits(project.student(name)) if kind == "student" and part == "release" else None


def _policy(limits: Limits) -> dg.FreshnessPolicy:
    """What Dagster shows beside the mark; the mark itself is set by the age of the data (freshness_marks.py)."""
    return dg.FreshnessPolicy.time_window(warn_window=limits.warn, fail_window=limits.fail)
