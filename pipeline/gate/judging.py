"""Judging a candidate: it, its control and what serves score the same rows of slices that none of them has seen.

Belongs here: who is compared with whom, on which rows, and what follows. Not here: which checkpoint and slices
(candidate.py), scores (scoring.py), intervals (comparison.py), the record (releases/verdict.py).
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import polars as pl

from exfm.declaration import digest
from exfm.learning import Student
from exfm.serving import FLOAT32
from models.learner import Learner
from models.metrics import probabilities
from models.tables import as_served
from pipeline.gate.candidate import Candidate, candidate_of, tables_of
from pipeline.gate.comparison import Resampled
from pipeline.gate.judged_rows import JudgedRows, Seen
from pipeline.gate.scoring import Scored, released_learner, resamples_of, score_slices
from pipeline.gate.segments import CANDIDATE, CONTROL, ROUNDING, segments_of
from pipeline.gate.words import reason_of
from pipeline.registry.checkpoint_store import CheckpointStore
from pipeline.releases.release import Released, current_release
from pipeline.releases.verdict import TOO_LITTLE, Compared, Verdict, read_verdict, refused_with, write_verdict
from pipeline.workspace import Workspace

SERVED = "served"


def judge(work: Workspace, student: Student, device: str, rows: JudgedRows | None = None) -> Verdict:
    """The verdict on the present candidate: the stored one if it follows from the same, else a new one, stored.

    Args:
        rows: what was read for students that were judged just before.

    Raises:
        DataError, CheckpointError: if what must be read is damaged.
    """
    chosen, stored = candidate_of(work, student), read_verdict(work, student)
    gate = digest(student.gate)
    if isinstance(chosen, str):
        verdict = Verdict(TOO_LITTLE, chosen, gate=gate, made_of=digest(gate, chosen))
    else:
        served, version = (
            current_release(work, student),
            CheckpointStore.of(work, student).manifest(chosen.slice).version,
        )
        if (
            stored is not None
            and stored.passed
            and served is not None
            and served.checkpoint == stored.candidate == version
            and served.table == student.serving.table
        ):
            return stored  # what was let through serves
        keys = tuple(slice_.key for slice_ in chosen.judged)
        made_of = _made_of(work, student, chosen, version, served)
        verdict = Verdict("", "", version, chosen.slice.key, keys, chosen.rows, gate=gate, made_of=made_of)
    if stored is not None and stored.made_of == verdict.made_of:
        return stored
    if not isinstance(chosen, str):
        verdict = _judged(rows or JudgedRows(work, device), student, chosen, verdict)
    verdict = replace(verdict, refused=refused_with(verdict, stored), judged_at=work.now().isoformat())
    write_verdict(work, student, verdict)
    return verdict


def _made_of(work: Workspace, student: Student, chosen: Candidate, version: str, served: Released | None) -> str:
    """A digest of all that a verdict follows from."""
    control = CheckpointStore.of(work, student, control=True).version_at(chosen.slice) if student.is_taught else None
    data = [[table.digest(slice_) for table in tables_of(work, student)] for slice_ in chosen.judged]
    serves = None if served is None else served.version
    kept = () if student.serving.table == FLOAT32 else (student.serving.table,)  # verdicts of before still hold
    return digest(student.gate, version, control, serves, [slice_.key for slice_ in chosen.judged], data, *kept)


def _judged(rows: JudgedRows, student: Student, chosen: Candidate, about: Verdict) -> Verdict:
    assert about.candidate is not None
    work = rows.work
    if (fault := rows.fault([chosen.slice, *chosen.judged])) is not None:
        return reason_of(student, about, fault=fault)
    models, note = _models(work, student, chosen, about.candidate, rows.device)
    scored = score_slices(rows, student, chosen.judged, models)
    if scored.said:
        about = replace(about, rows=len(scored.labels))
        note = ", ".join(filter(None, [note, scored.said]))
    positives, negatives = int((scored.labels > 0).sum()), int((scored.labels < 1).sum())
    if not positives or not negatives:
        label = "positive" if not positives else "negative"
        return replace(about, outcome=TOO_LITTLE, reason=f"none of {len(scored.labels):,} labels is {label}")
    ne = {name: scored.ne(name) for name in scored.logits}
    seed = int(about.made_of, 16)
    chance = scored.weighted(probabilities(scored.logits[CANDIDATE]))
    mine = scored.weighted(scored.labels.astype(np.float64))
    of_all = resamples_of(student, scored.users, seed)
    band = of_all.ratio(chance, mine, student.gate.confidence)
    seen = rows.seen_before(chosen.judged[0])
    about = replace(
        about,
        ne=ne,
        calibration=(band.value, band.low, band.high),
        segments=segments_of(work, student, scored, seen, of_all),
    )
    compared = tuple(_compared(work, student, scored, seen, of_all))
    return reason_of(student, replace(about, compared=compared), note=note)


def _models(
    work: Workspace, student: Student, chosen: Candidate, version: str, device: str
) -> tuple[dict[str, Learner], str]:
    """Those who are compared, and a sentence on why what serves is not, if so."""
    store, served = CheckpointStore.of(work, student), current_release(work, student)
    models = {CANDIDATE: as_served(store.load(chosen.slice, device)[0], student.serving.table)}
    if student.is_taught:
        models[CONTROL] = CheckpointStore.of(work, student, control=True).load(chosen.slice, device)[0]
    if served is None or served.checkpoint == version:  # not against itself, whose table was kept otherwise
        return models, ""
    if served.slice >= chosen.judged[0].key:
        return models, f"what serves has learnt from slice {served.slice}, on which it can't be judged"
    rival = released_learner(work, student, served.version, device)
    if isinstance(rival, str):
        return models, f"what serves can't be compared: {rival}"
    return {**models, SERVED: rival}, ""


def _compared(work: Workspace, student: Student, scored: Scored, seen: Seen, of_all: Resampled) -> Iterator[Compared]:
    """Each rival on all rows, then on each part that has rows enough."""
    gate = student.gate
    rivals = [name for name in (CONTROL, SERVED) if name in scored.logits]
    parts = {
        where: rows
        for where, rows in _parts(work, student, scored, seen)
        if int(rows.sum()) >= scored.least(gate.judged_rows) and 0 < scored.labels[rows].sum() < rows.sum()
    }
    everything = {"all": np.ones(len(scored.labels), dtype=bool)}
    apart = 1 - (1 - gate.confidence) / max(len(parts) * len(rivals), 1)  # Bonferroni
    for where, rows in {**everything, **parts}.items():
        users = scored.users.filter(pl.Series(rows))
        resampled = of_all if where == "all" else resamples_of(student, users, of_all.seed)
        for rival in rivals:
            confidence = gate.confidence if where == "all" else apart
            allowed = gate.tolerance if rival == CONTROL else max(gate.tolerance, 0.0)
            base = scored.losses[rival][rows]
            found = resampled.ratio(scored.losses[CANDIDATE][rows] - base, base, confidence)
            bounds = (found.value, found.low, found.high)
            value, low, high = (0.0, 0.0, 0.0) if abs(found.value) < ROUNDING else bounds
            yield Compared(rival, where, int(rows.sum()), value, low, high, confidence, allowed)


def _parts(work: Workspace, student: Student, scored: Scored, seen: Seen) -> Iterator[tuple[str, np.ndarray]]:
    """Rows that are judged apart: each surface of a student of all, and users that the look-back has not seen."""
    stream = work.project.stream
    if student.surface is None:
        for surface in stream.surfaces:
            yield str(surface), (scored.surfaces == surface).fill_null(False).to_numpy()
    if (users := seen.get(stream.user.name)) is not None:
        yield "new users", (~scored.users.is_in(users.implode())).fill_null(False).to_numpy()
