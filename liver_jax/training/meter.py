"""Losses, norms and pace of training, fetched from the device only when a row is due."""

import math
import time
from collections.abc import Sequence

import jax


class NotFinite(Exception):  # noqa: N818 (the loop turns it into the error that a user reads)
    """A number of the step that led to `step`, or of its validation, is NaN or infinite; `what` it is in words.

    `rows` are those of the store that a validation gave such a number for, none of a training step.
    """

    def __init__(self, what: str, value: float, step: int, rows: Sequence[int] = ()) -> None:
        super().__init__(f'the {what} is {value} at step {step}')
        self.what, self.value, self.step, self.rows = what, value, step, list(rows)


class Meter:
    """Losses since the last logged step, some of them still on the device, and the pace.

    `seconds` is what a step took in the last row, NaN before there is one.
    """

    def __init__(self, losses: list[float]) -> None:
        """Go on with the `losses` (since the last logged step) of a resumed run."""
        self.losses, self.seconds = list(losses), math.nan
        self._waiting: list[tuple[int, dict[str, jax.Array]]] = []
        self._last: dict[str, float] = {}
        self._since: float | None = None
        self._timed = 0

    def restart(self) -> None:
        """Forget time spent on anything but training."""
        self._since, self._timed = None, 0

    def add(self, step: int, metrics: dict[str, jax.Array]) -> None:
        """The metrics (scalars by name) of the step that led to `step`, not fetched yet."""
        self._since = self._since or time.monotonic()  # the first call: its step is compiled now, not yet computed
        self._waiting.append((step, metrics))

    def fetch(self) -> None:
        """Bring everything to the host at once; raises NotFinite at the first step that has such a number."""
        waiting, self._waiting = self._waiting, []
        for (step, _), metrics in zip(waiting, jax.device_get([each for _, each in waiting]), strict=True):
            self._last = {name: float(value) for name, value in metrics.items()}
            for name in sorted(self._last, key=lambda name: name != 'loss'):  # the loss is told of first
                if not math.isfinite(self._last[name]):
                    raise NotFinite(name.replace('_', ' '), self._last[name], step)
            self.losses.append(self._last['loss'])
            self._timed += 1

    def row(self) -> dict[str, float]:
        """Mean loss since the last row, learning rate and norms of the last step; starts anew."""
        now = time.monotonic()
        self.seconds = (now - (self._since or now)) / max(self._timed, 1)
        loss = sum(self.losses) / len(self.losses)
        self.losses, self._since, self._timed = [], now, 0
        return {**self._last, 'loss': loss}
