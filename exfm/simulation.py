"""The simulated stream's knobs: how large, how it drifts.

Belongs here: what a simulated world is made of. Not here: making it (pipeline/streams/simulator.py).
"""

from typing import Literal

from exfm.declaration import Declaration, declaration
from exfm.errors import DeclarationError, above_zero, at_least, at_most, share


@declaration
class Event(Declaration):
    """Something that happens to a simulated stream, to see what upkeep makes of it.

    Args:
        kind: ``taste``: that share of taste jumps; ``rates``: outcomes become so many times as likely; ``traffic``:
            so many times as many impressions; ``popularity``: that share of what makes items liked, and often shown,
            turns into something else; ``flipped``: that share of impressions is logged with the opposite of what
            happened; ``null``, ``stuck``: that share of a context column's values is null, or always the same;
            ``surface``: a surface that was not shown before appears; ``missing``: nothing is logged; ``late``: what
            happens is in the log only so many days after its slice's end; ``silent``, ``poisoned``: that share of
            every teacher's predictions is no number, or the opposite of what the teacher says.
        day: when it begins, in days since the first slice.
        length: how many days it lasts; ``None``: for good.
        strength: as ``kind`` says.
        of: the context column, or the surface; of ``rates`` and ``flipped`` the surface, or ``None`` for all.
    """

    kind: Literal[
        "taste",
        "rates",
        "traffic",
        "popularity",
        "flipped",
        "null",
        "stuck",
        "surface",
        "missing",
        "late",
        "silent",
        "poisoned",
    ]
    day: float
    length: float | None = None
    strength: float = 1.0
    of: int | str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("Event.day", self.day, 0)
        if self.length is not None:
            above_zero("Event.length", self.length)
        if self.kind in ("taste", "popularity", "flipped", "null", "stuck", "silent", "poisoned"):
            share("Event.strength", self.strength)
        elif self.kind in ("rates", "traffic", "late"):
            above_zero("Event.strength", self.strength)
            at_most("Event.strength", self.strength, 1_000)
        if self.kind in ("null", "stuck", "surface") and self.of is None:
            what = "surface" if self.kind == "surface" else "context column"
            raise DeclarationError(f"Event({self.kind}).of: None says of no {what}: name one")

    @property
    def end(self) -> float:
        """When it is over, in days since the first slice."""
        return float("inf") if self.length is None else self.day + self.length


@declaration
class Simulation(Declaration):
    """A seeded world that writes the canonical log.

    Args:
        seed: everything follows from it; the same seed gives the same bytes.
        impressions_per_day: mean rate of the stream.
        users, items: alive when the stream begins.
        new_users_per_day, new_items_per_day: births; items also lose popularity with ``half_life_days``.
        taste: width of the latent taste of users and items.
        drift: how taste moves: ``none``, ``gradual`` (a slow rotation) or ``sudden`` (a jump at ``drift_day``).
        drift_strength: share of taste that has moved after a week (gradual) or at the jump (sudden), in [0, 1].
        late_share, duplicate_share, orphan_share: shares of outcomes that break the rules.
        events: what happens to the stream on the way.
        live: its log is not drawn slice by slice, but written by ``exfm live`` as time goes on: what users are shown
            depends on what the released students answer.
    """

    seed: int = 7
    impressions_per_day: int = 100_000
    users: int = 20_000
    items: int = 2_000
    new_users_per_day: int = 1_000
    new_items_per_day: int = 200
    half_life_days: float = 4.0
    taste: int = 8
    drift: Literal["none", "gradual", "sudden"] = "gradual"
    drift_strength: float = 0.3
    drift_day: float = 7.0
    late_share: float = 0.01
    duplicate_share: float = 0.01
    orphan_share: float = 0.002
    events: tuple[Event, ...] = ()
    live: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("impressions_per_day", "users", "items", "taste"):
            at_least(f"Simulation.{name}", getattr(self, name), 1)
        at_most("Simulation.taste", self.taste, 1_000)
        for name in ("seed", "new_users_per_day", "new_items_per_day"):
            at_least(f"Simulation.{name}", getattr(self, name), 0)
        for name in ("drift_strength", "late_share", "duplicate_share", "orphan_share"):
            share(f"Simulation.{name}", getattr(self, name))
        above_zero("Simulation.half_life_days", self.half_life_days)
