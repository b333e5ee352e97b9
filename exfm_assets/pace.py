"""How far a run is: the step's slice of so many, how fast they go, and about how long is left.

Belongs here: reckoning and wording. Not here: reading Dagster's events (progress.py).
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from exfm_assets.plan_words import in_words
from pipeline.parts import PACE

BAR = 20  # signs
LONG_SLICES = 3  # from so many slices on a step has a bar
SOON = 5.0  # seconds in which a guess of what is left is no help


@dataclass
class Pace:
    """Follows one run.

    Args:
        slices: keys of the slices that the run walks over.
        expected: seconds that the whole run takes by what was measured before; ``None`` if that is not known.
        began: when it began, in seconds since the epoch.
    """

    slices: Sequence[str] = ()
    expected: float | None = None
    began: float = field(default_factory=time.time)
    _step: str = "starting"
    _said: str = ""
    _far: str = ""
    _since: float = 0.0
    _seen: set[str] = field(default_factory=set)

    def begin(self, step: str, at: float) -> None:
        """A step began."""
        self._step, self._said, self._far, self._since, self._seen = step, "", "", at, set()

    def line(self, message: str) -> None:
        """The step said something: how far a slice is, or, where it names a slice of the run, that it is done."""
        self._far = message if PACE in message else ""
        if self._far:
            return
        self._said = message
        named = {word.rstrip(":") for word in message.split()}
        self._seen |= named & set(self.slices)

    def words(self, now: float | None = None) -> str:
        """All of it in one line."""
        at = time.time() if now is None else now
        done, count = len(self._seen), len(self.slices)
        if done == 0 or count < LONG_SLICES:
            text, spent = self._far or self._said or self._step, at - self._since
            if self._since and spent > SOON:
                text += f", for {in_words(spent)}"
        else:
            each = max(at - self._since, 0.0) / done
            full = BAR * done // count
            bar = "█" * full + "░" * (BAR - full)
            text = f"{self._step} {bar} slice {done} of {count}, {each:.1f} s a slice"
            if done < count and each * (count - done) > SOON:
                text += f", {in_words(each * (count - done))} left in this step"
            text += f"; {self._far}" if self._far else ""
        left = (self.expected or 0.0) - (at - self.began)
        return f"{text}; about {in_words(left)} left" if left > SOON else text
