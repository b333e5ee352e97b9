"""What has drifted of a student or a teacher, and whether what serves has learnt from it since.

Belongs here: the measures, and what an alarm means. Not here: the tests (detection.py), profiles (profile.py), the
report (report.py), acting on it (exfm_assets/automation.py).

An alarm is handled once what serves was trained on the slice that it is of: so each acts once. What stays as bad after
that is said, and left alone. While nothing that was trained on it comes to serve, tries.py says what is done.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from exfm.project import Drift
from pipeline.drift.detection import LEAST, beyond, first_change, spread
from pipeline.drift.profile import ITEMS, ROWS, USERS, added, psi, psi_and_chance

USUAL_SLICES, USUAL_FACTOR = 7, 3.0
ACTS = ("ne", "calibration", "inputs", "predictions", "lead", "disagreement")


@dataclass(frozen=True)
class Judged:
    """One judged slice.

    Args:
        learnt: index of the slice that what served had learnt from last; -1 where that is not known.
    """

    index: int
    learnt: int
    positives: int
    ne: float
    calibration: float
    lead: float = float("nan")
    disagreement: float = float("nan")
    histogram: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Finding:
    """A change that was detected.

    Args:
        measure: ``ne``, ``calibration``, ``inputs``, ``predictions``, ``lead``, ``disagreement``, ``rows``.
        index: of the slice at which it was.
        handled: what serves has learnt from that slice.
    """

    measure: str
    index: int
    reason: str
    handled: bool

    @property
    def acts(self) -> bool:
        return not self.handled and self.measure in ACTS


def of_judged(judged: Sequence[Judged], limits: Drift, released: int) -> Iterator[Finding]:
    """Changes in how well a model predicted.

    Args:
        judged: oldest slice first.
        released: index of the slice that what serves has learnt from last; -1: nothing serves.
    """
    # Nor below what matters: where slices are large, every small change would be seen.
    ne = [(each, each.ne, each.ne * max(0.5 / np.sqrt(max(each.positives, 1)), 0.002)) for each in judged]
    rates = [
        (each, np.log(each.calibration), max(1 / np.sqrt(max(each.positives, 1)), 0.03))
        for each in judged
        if each.calibration > 0
    ]
    leads = [(each, each.lead, 0.5 / np.sqrt(max(each.positives, 1))) for each in judged]
    apart = [(each, np.log(each.disagreement), 0.2) for each in judged if each.disagreement > 0]
    tests = (("ne", ne, (True,)), ("calibration", rates, (True, False)), ("lead", leads, (False,)),
             ("disagreement", apart, (True,)))  # fmt: skip
    for measure, values, ways in tests:
        known = [value for value in values if np.isfinite(value[1])]
        for up in ways:
            yield from _sequential(measure, known, up, limits.threshold, released)
    yield from _by_limits(judged, limits, released)
    yield from _predictions(judged, limits, released)


Value = tuple[Judged, float, float]  # the slice, the number, its standard error by size


def _sequential(measure: str, values: Sequence[Value], up: bool, threshold: float, released: int) -> Iterator[Finding]:
    """Alarms of a sequence; after each it begins anew with what was trained on the slice of the alarm."""
    while values:
        at = first_change([v for _, v, _ in values], [size for _, _, size in values], up=up, threshold=threshold)
        if at is None:
            return
        slice_ = values[at][0]
        before, now = np.mean([v for _, v, _ in values[: max(at - 1, 1)]]), values[at][1]
        name = f"log {measure}" if measure in ("calibration", "disagreement") else measure
        word = "rose" if up else "fell"
        values = [value for value in values[at + 1 :] if value[0].learnt >= slice_.index]
        if measure == "calibration" and abs(now) <= abs(before):
            continue  # it came closer to 1
        reason = f"{name} {word} from {before:.4f} to {now:.4f} (Page-Hinkley)"
        yield Finding(measure, slice_.index, reason, released >= slice_.index)


def _by_limits(judged: Sequence[Judged], limits: Drift, released: int) -> Iterator[Finding]:
    """The newest slices against those before, and against the calibration that is declared.

    Of what lasts, the slice and the figures at which it began: one change is one finding, for as long as it lasts.
    """
    known = [each for each in judged if np.isfinite(each.ne)]
    looks: dict[str, Callable[[Sequence[Judged], Drift], str | None]] = {"ne": _rise, "calibration": _away}
    for measure, look in looks.items():
        count, reason = len(known), None
        while count >= 2 * limits.slices and (found := look(known[:count], limits)) is not None:
            count, reason = count - 1, found
        if reason is not None:
            yield Finding(measure, known[count].index, reason, released >= known[count].index)


def _rise(known: Sequence[Judged], limits: Drift) -> str | None:
    """Of the newest slices, whether NE is higher than in as many before."""
    now, then = ([each.ne for each in part] for part in _newest_and_before(known, limits))
    error = spread([each.ne for each in known], [0.5 * each.ne / np.sqrt(max(each.positives, 1)) for each in known])
    if not beyond(now, then, error, lambda reference: reference * (1 + limits.ne_rise)):
        return None
    return f"NE rose from {np.mean(then):.4f} to {np.mean(now):.4f}, more than {limits.ne_rise:.0%}"


def _away(known: Sequence[Judged], limits: Drift) -> str | None:
    """Of the newest slices, whether the mean prediction over the mean label is far from 1."""
    newest, _ = _newest_and_before(known, limits)
    rate = float(np.mean([each.calibration for each in newest]))
    error = rate / np.sqrt(max(sum(each.positives for each in newest), 1))
    if abs(rate - 1) - limits.calibration_error <= 2 * error:
        return None
    return f"calibration {rate:.3f} is more than {limits.calibration_error} from 1"


def _newest_and_before(known: Sequence[Judged], limits: Drift) -> tuple[Sequence[Judged], Sequence[Judged]]:
    return known[-limits.slices :], known[: -limits.slices][-limits.slices :]


def _predictions(judged: Sequence[Judged], limits: Drift, released: int) -> Iterator[Finding]:
    """The newest slice's predictions against those of as many slices before as are compared."""
    known = [each for each in judged if each.histogram]
    if len(known) < limits.slices + 3:
        return  # what is usual takes two comparisons
    newest, before = known[-1], known[-1 - limits.slices : -1]
    usual = [
        psi(dict(now.histogram), dict(then.histogram), _sizes(now, then))
        for then, now in zip(known[-1 - USUAL_SLICES : -2], known[-USUAL_SLICES:-1], strict=False)
    ]
    value = min(psi(dict(newest.histogram), dict(each.histogram), _sizes(newest, each)) for each in before)
    often = sorted(usual)[-2]
    if value > max(limits.psi, USUAL_FACTOR * often):
        reason = f"PSI of predictions is {value:.2f}, usually up to {often:.2f}"
        yield Finding("predictions", newest.index, reason, released >= newest.index)


def _sizes(now: Judged, then: Judged) -> tuple[int, int]:
    return sum(now.histogram.values()), sum(then.histogram.values())


Profiles = Mapping[int, Mapping[str, dict[str, int]]]  # slice index -> column -> bin -> rows


def of_inputs(
    profiles: Profiles, columns: Sequence[str], limits: Drift, learnt: int, of_teachers: Collection[str] = ()
) -> Iterator[Finding]:
    """Slices after those that were learnt from whose inputs are distributed otherwise, the first of each column.

    Args:
        columns: that the model reads.
        learnt: index of the slice that was learnt from last; below 0 nothing is compared.
        of_teachers: those made of predictions: they move while a teacher is young, so more must be known of them.
    """
    reference = [at for at in range(learnt - limits.slices + 1, learnt + 1) if at in profiles]
    if learnt < 0 or len(reference) < limits.slices:
        return
    later = sorted(at for at in profiles if at > learnt)
    for column in columns:
        usual = usual_of(profiles, column, learnt, LEAST if column in of_teachers else 2)
        if usual is None:
            continue
        limit = max(limits.psi, USUAL_FACTOR * usual)
        for at in later:
            # What is like any of the slices that were learnt from is nothing new.
            value, chance = min(
                _psi_and_chance(profiles, column, [at], before) for before in (reference, *([one] for one in reference))
            )
            if value > max(limit, chance):
                reason = f"PSI of {column} is {value:.2f}, usually up to {usual:.2f} from slice to slice"
                yield Finding("inputs", at, reason, False)
                break


def usual_of(profiles: Profiles, column: str, until: int, least: int = 2) -> float | None:
    """What is usual of a column's PSI from one slice to the next, up to a slice; ``None`` with fewer than ``least``.

    The second largest of a week of days: weekends come and go twice in it, a drift that was learnt only once.
    """
    known = [at for at in range(until - USUAL_SLICES, until + 1) if at in profiles]
    values = [psi_of(profiles, column, [now], [then]) for then, now in zip(known, known[1:], strict=False)]
    return sorted(values)[-2] if len(values) >= least else None


def psi_of(profiles: Profiles, column: str, now: Sequence[int], before: Sequence[int]) -> float:
    """PSI of a column between two sets of slices."""
    return _psi_and_chance(profiles, column, now, before)[0]


def _psi_and_chance(profiles: Profiles, column: str, now: Sequence[int], before: Sequence[int]) -> tuple[float, float]:
    samples = [added(profiles[at].get(column, {}) for at in several) for several in (now, before)]
    of = (USERS, ITEMS) if "__" in column or column.startswith("new ") else (USERS,)
    # Not added up: users and items of one slice are mostly those of the next.
    sizes = [
        min(max(sum(profiles[at].get(name, {}).values()) for at in several) for name in of) for several in (now, before)
    ]
    return psi_and_chance(samples[0], samples[1], (sizes[0], sizes[1]))


def of_rows(profiles: Profiles, learnt: int) -> Iterator[Finding]:
    """Slices after those learnt from with less than half, or more than twice, the usual rows: said, and no reason to
    train."""
    before = [sum(profiles[at].get(ROWS, {}).values()) for at in profiles if at <= learnt][-USUAL_SLICES:]
    if len(before) < LEAST:
        return
    usual = float(np.median(before))
    for at in sorted(at for at in profiles if at > learnt):
        rows = sum(profiles[at].get(ROWS, {}).values())
        if not usual / 2 <= rows <= usual * 2:
            yield Finding("rows", at, f"{rows:,} rows, {usual:,.0f} in the median before", False)


def mended(judged: Sequence[Judged], found: Finding, limits: Drift) -> str:
    """Of a handled rise of NE, what training on it brought; empty while nothing was judged since."""
    since = [each.ne for each in judged if each.learnt >= found.index and np.isfinite(each.ne)]
    before = [each.ne for each in judged if each.index < found.index and np.isfinite(each.ne)][-USUAL_SLICES:]
    if found.measure != "ne" or not since or not before:
        return ""
    now, then = float(np.median(since)), float(np.median(before))  # the first slices of a change may be among them
    word = "mended" if now <= then * (1 + limits.ne_rise / 2) else "not mended"
    return f"{word} by training on it: NE {now:.4f} since, {then:.4f} before"
