"""Validation during training: scores of the validation slices, and a picture of some of them for TensorBoard."""

import jax
import numpy as np
from flax import linen as nn

from liver_jax.config import Config
from liver_jax.data.splits import Split
from liver_jax.data.store import SliceStore
from liver_jax.evaluation.evaluate import HALF, Evaluator
from liver_jax.evaluation.scores import summarise
from liver_jax.metrics.losses import make_loss
from liver_jax.runtime.interrupt import StopRequest
from liver_jax.runtime.telemetry import Telemetry
from liver_jax.training.meter import NotFinite
from liver_jax.training.overlay import overlay
from liver_jax.training.state import TrainState

PREVIEWS = 4  # slices in the picture


class Validation:
    """Scores states on the validation part of a split; compiled at the first call."""

    def __init__(
        self, model: nn.Module, config: Config, store: SliceStore, split: Split, mesh: jax.sharding.Mesh
    ) -> None:
        self._config, self._store = config, store
        self._overlay_name = 'val/overlay_split_by_slice_leaks' if split.warning else 'val/overlay'
        self._rows = rows = split.rows['val']
        self._shown = rows[np.unique(np.linspace(0, len(rows) - 1, PREVIEWS).astype(int))]  # evenly spread
        target = config.data.target
        self._all = Evaluator(model, store, rows, target, config.eval, mesh, make_loss(config.loss))
        self._previews = Evaluator(model, store, self._shown, target, config.eval, mesh)

    def run(self, state: TrainState, step: int, telemetry: Telemetry, stop: StopRequest) -> dict[str, float]:
        """The summary of the scores, logged at `step`.

        Raises:
            NotFinite: the loss of a slice is not.
            Interrupted: a signal asked for a `stop`; nothing is logged.
        """
        scores = self._all.run(state.variables, stop)
        if len(bad := scores.not_finite):
            rows = self._rows[bad[: self._config.eval.batch_size]]
            raise NotFinite('validation loss', float(np.asarray(scores.loss)[bad[0]]), step, rows.tolist())
        summary = summarise(scores)
        telemetry.scalars(step, {f'val/{name}': value for name, value in summary.items()})
        telemetry.image(step, self._overlay_name, self._picture(state))
        return summary

    def monitored(self, summary: dict[str, float]) -> float:
        """The score that picks the best checkpoint and stops early; more is better."""
        monitor = self._config.train.monitor
        return -summary['loss'] if monitor == 'loss' else summary[monitor]

    def _picture(self, state: TrainState) -> np.ndarray:
        references = self._store.masks(self._shown, self._config.data.target) >= HALF
        return overlay(self._store.images(self._shown), references, self._previews.predict(state.variables))
