"""How far a run has come, beside the state of the network: plain data, saved in every checkpoint."""

import dataclasses
import math
from typing import Any

from liver_jax.training.early_stopping import EarlyStopping


@dataclasses.dataclass(frozen=True)
class Progress:
    """What a resumed run must know beside the state; saved as JSON with it."""

    position: dict[str, int]
    stopping: EarlyStopping
    split: str = ''  # digest of the split it is trained on
    validated: int = -1  # the last step that was validated
    best_step: int | None = None
    best_score: float | None = None
    finished: bool = False  # nothing is left to train or validate
    losses: list[float] = dataclasses.field(default_factory=list)  # of the steps since the last logged one

    def after(self, step: int, score: float, epoch: bool = True) -> 'Progress':
        """After validation at `step`. The best is the highest score, the earlier of equals; NaN never is.

        Early stopping counts epochs: a validation elsewhere is none.
        """
        stopping = self.stopping.update(score) if epoch else self.stopping
        if math.isnan(score) or (self.best_score is not None and score <= self.best_score):
            return dataclasses.replace(self, stopping=stopping, validated=step)
        return dataclasses.replace(self, stopping=stopping, validated=step, best_step=step, best_score=score)

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> 'Progress':
        """From plain data."""
        return cls(**{**values, 'stopping': EarlyStopping(**values['stopping'])})
