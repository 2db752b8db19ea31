"""Losses and pace of training, fetched from the device only when a row is due."""

import math
import time
from pathlib import Path

import jax

from liver_jax.errors import UserError


class Meter:
    """Losses since the last logged step, some of them still on the device, and the pace."""

    def __init__(self, workdir: Path, batch_size: int, losses: list[float]) -> None:
        """Go on with the `losses` (since the last logged step) of a resumed run."""
        self.losses, self._workdir, self._batch_size = list(losses), workdir, batch_size
        self._waiting: list[tuple[int, dict[str, jax.Array]]] = []
        self._learning_rate = math.nan
        self._timed = 0
        self.restart()

    def restart(self) -> None:
        """Forget time spent on anything but training."""
        self._since, self._timed = time.monotonic(), 0

    def add(self, step: int, metrics: dict[str, jax.Array]) -> None:
        """The metrics of the step that led to `step`, not fetched yet."""
        self._waiting.append((step, metrics))

    def fetch(self) -> None:
        """Bring everything to the host; raises UserError at the first loss that is not finite."""
        waiting, self._waiting = self._waiting, []
        for (step, _), metrics in zip(waiting, jax.device_get([each for _, each in waiting]), strict=True):
            loss = float(metrics['loss'])
            if not math.isfinite(loss):
                raise not_finite(self._workdir, 'loss', loss, step)
            self.losses.append(loss)
            self._learning_rate = float(metrics['learning_rate'])
            self._timed += 1

    def row(self) -> dict[str, float]:
        """Mean loss since the last row, current learning rate, slices per second; starts anew."""
        rate = self._timed * self._batch_size / max(time.monotonic() - self._since, 1e-9)
        loss = sum(self.losses) / len(self.losses)
        self.losses = []
        self.restart()
        return {'loss': loss, 'learning_rate': self._learning_rate, 'images_per_second': rate}


def not_finite(workdir: Path, what: str, value: float, step: int) -> UserError:
    """The error that ends a run whose loss has become NaN or infinite; nothing of that state is saved."""
    return UserError(
        f'{workdir}: the {what} is {value} at step {step}; this state is not saved; '
        'lower optim.learning_rate or look for volumes with extreme values, and use a new --workdir'
    )
