"""The simulated stream's knobs: how large, how it drifts.

Belongs here: what a simulated world is made of. Not here: making it (pipeline/streams/simulator.py).
"""

from typing import Literal

from exfm.declaration import Declaration, declaration
from exfm.errors import above_zero, at_least, at_most, share


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
