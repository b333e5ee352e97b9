"""The registered models that MLflow should hold: one a student, a version a release, aliases for what serves.

Belongs here: versions, aliases, their words. Not here: runs and figures (runs.py), MLflow (sync.py).
"""

from collections.abc import Sequence

from exfm.learning import Student
from exfm.mlflow import MLflow
from pipeline.mirror.runs import release_key, release_tags
from pipeline.mirror.wanted import WantedModel, WantedVersion, shortened
from pipeline.releases.history import history_of, numbered
from pipeline.releases.release import Released
from pipeline.releases.withdrawing import touched_by
from pipeline.workspace import Workspace

SERVING, PREVIOUS = "serving", "previous"
SHOWN = {
    "exfm.gate": "Gate",
    "exfm.declaration": "Declaration",
    "exfm.parent": "Continues checkpoint",
    "exfm.teacher_checkpoints": "Taught by checkpoints",
    "exfm.data_versions": "Data",
}


def registered_model(work: Workspace, declared: MLflow, student: Student) -> WantedModel | None:
    """The student's model; ``None`` where nothing was released."""
    history = history_of(work, student)
    if not history:
        return None
    now, before = history[-1], _before(history)
    because = f" ({now.why})" if now.why else ""
    tags = {
        "exfm.student": student.name,
        "exfm.serves": f"release {now.number}, {now.action} {now.released_at[:19]}{because}",
        "exfm.pinned": "yes" if now.pinned else "no",
    }
    where = f"surface {student.surface}" if student.surface is not None else "all surfaces"
    about = (
        f"Student {student.name} of the exfm project {work.project.name}: {student.task} on {where}. Mirrored from the "
        "project's own history; what serves is changed there (exfm releases), not here."
    )
    return WantedModel(
        name=declared.model_of(work.project.name, student.name),
        about=about,
        tags=shortened(tags),
        versions=tuple(_version(work, student, release) for release in numbered(history).values()),
        aliases={SERVING: now.number, PREVIOUS: before},
    )


def _before(history: Sequence[Released]) -> int | None:
    """The release that served before the one that serves now."""
    return next((entry.number for entry in reversed(history) if entry.number != history[-1].number), None)


def _version(work: Workspace, student: Student, release: Released) -> WantedVersion:
    tags, key = release_tags(work, student, release), release_key(student, release.number)
    lines = [f"Release {release.number} of student {student.name}: checkpoint {release.checkpoint} of {release.slice}."]
    lines += [f"{word}: {tags[name]}" for name, word in SHOWN.items() if name in tags]
    gone = touched_by(work, student, release)
    withdrawn = {"exfm.withdrawn": f"{gone.model} {gone.slice}: {gone.why}"} if gone is not None else {}
    return WantedVersion(
        key=key,
        run=key,
        number=release.number,
        folder=work.state.release(student.name) / release.version,
        reference=f"exfm://{work.project.name}/releases/{student.name}/{release.version}",
        about="\n\n".join(lines),
        tags=tags | shortened(withdrawn),
    )
