"""Stop when the monitored score has not improved for a while (Prechelt 1998); plain data, saved with checkpoints."""

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class EarlyStopping:
    """`score`: more is better. `best` is the last score that improved on its predecessor by more than `min_delta`."""

    patience: int
    min_delta: float
    best: float | None = None
    waited: int = 0

    def update(self, score: float) -> 'EarlyStopping':
        """After an epoch with this score. NaN is never an improvement.

        Zero (no pixel found yet) and NaN are not held against a run that has not had a score: cross-entropy on a
        rare class may take many epochs to find its first pixels.
        """
        if self.best is None and (score == 0 or math.isnan(score)):
            return self
        if score > (-math.inf if self.best is None else self.best + self.min_delta):
            return dataclasses.replace(self, best=score, waited=0)
        return dataclasses.replace(self, waited=self.waited + 1)

    @property
    def should_stop(self) -> bool:
        """Whether `patience` epochs have passed without improvement."""
        return self.waited >= self.patience
