"""Writes the flight record of a step that went wrong.

The state before a step is gone when its loss is looked at: its memory was given to the next one, some steps ago. So the
run goes back to its newest checkpoint (or its start) and computes the same steps again, for batches, draws and
parameters are functions of seed and step. That costs nothing until something goes wrong, and then less than the time
since that checkpoint. Where the devices do not give the same bits twice (GPUs without `train.deterministic`), another
step may go wrong, or none: what came out is recorded, and the record says so.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from liver_jax.config import Config
from liver_jax.data.store import SliceStore
from liver_jax.data.stream import train_batches
from liver_jax.runtime.environment import describe_environment
from liver_jax.runtime.interrupt import Interrupted, StopRequest
from liver_jax.runtime.mesh import put_batch
from liver_jax.training.examine import Found, all_finite, examine_step, examine_validation
from liver_jax.training.feed import Feed
from liver_jax.training.flight import Flight, config_without_paths, name_slices, state_arrays, write_flight
from liver_jax.training.meter import Meter, NotFinite
from liver_jax.training.recipe import Recipe
from liver_jax.training.state import TrainState
from liver_jax.training.step import StepFn

log = logging.getLogger(__name__)
LOOK_EVERY = 10  # steps


class Recorder:
    """What a run tells of a step; `epoch_steps` are needed for the learning rate of a replay."""

    def __init__(
        self, workdir: Path, config: Config, recipe: Recipe, mesh: jax.sharding.Mesh, store: SliceStore,
        rows: np.ndarray, epoch_steps: int,
    ) -> None:  # fmt: skip
        """Of training on these `rows` of the store."""
        self._workdir, self._config, self._recipe, self._mesh = workdir, config, recipe, mesh
        self._store, self._rows, self._epoch_steps = store, rows, epoch_steps

    def training(self, bad: NotFinite, state: TrainState, feed: Feed) -> str:
        """Record the step that went wrong, from the state before it; the feed stands there. Where the record is."""
        found = examine_step(self._recipe, self._mesh, state, feed.next_batch(None))
        config, index = self._config, bad.step - 1
        stream = train_batches(
            self._store, self._rows, config.data.target, config.augment, config.train.batch_size, bad.step, config.seed
        )  # of all processes, and with the slices, wherever the feed has them
        stream.set_state({'next_index': index})
        batch = next(stream)
        stream.close()
        return self._write(
            'training', bad, found, state, batch['rows'], {n: batch[n] for n in ('image', 'mask', 'draws')}
        )

    def validation(self, bad: NotFinite, state: TrainState) -> str:
        """Record the slices whose loss is not finite, and the state that was validated. Where the record is."""
        rows = np.resize(bad.rows, -(-len(bad.rows) // self._mesh.size) * self._mesh.size)  # that devices can share
        batch = {'image': self._store.images(rows), 'mask': self._store.masks(rows, self._config.data.target)}
        own = len(rows) // jax.process_count() * jax.process_index()
        share = {name: values[own : own + len(rows) // jax.process_count()] for name, values in batch.items()}
        found = examine_validation(self._recipe, self._mesh, state, put_batch(share, self._mesh))
        return self._write('validation', bad, found, state, rows, batch)

    def _write(
        self, kind: str, bad: NotFinite, found: Found, state: TrainState, rows: np.ndarray, batch: dict[str, Any]
    ) -> str:
        about = {
            'kind': kind, 'step': bad.step, 'what': bad.what, 'value': bad.value, 'seen_again': not all_finite(found),
            'slices': name_slices(self._store, rows), 'found': found, 'epoch_steps': self._epoch_steps,
            'environment': describe_environment(), 'config': config_without_paths(self._config),
        }  # fmt: skip
        folder = self._workdir / f'flight-{bad.step}'
        if jax.process_index():
            return f'see {folder}'
        if not about['seen_again']:
            log.warning('step %d was computed again, and all its numbers were finite', bad.step)
        try:
            size = write_flight(folder, Flight(about, batch, state_arrays(state)))
        except OSError as error:
            return f'no flight record could be written ({error.strerror})'
        return f'flight record of {size / 1e6:.1f} MB; see that step again with: liver-jax replay {folder}'


def go_back(
    bad: NotFinite, start: Callable[[], tuple[int, TrainState]], feed: Feed, step_fn: StepFn, stop: StopRequest
) -> tuple[NotFinite, TrainState]:
    """From the newest checkpoint to the state before the bad step; or before an earlier one, bad this time.

    `start` gives the step and state of that checkpoint and sets the feed, which stands at the bad step's batch then.

    Raises:
        Interrupted: a stop was asked for.
    """
    first, state = start()
    log.warning('%s; going there again from step %d, for a record', bad, first)
    meter = Meter([])
    try:
        for step in range(first + 1, bad.step):
            if stop.reached():
                raise Interrupted(f'stopped on the way to step {bad.step}, which is not recorded yet')
            state, metrics = step_fn(state, feed.next_batch(None))
            meter.add(step, metrics)
            if step % LOOK_EVERY == 0:
                meter.fetch()
        meter.fetch()
    except NotFinite as earlier:
        del state
        return go_back(earlier, start, feed, step_fn, stop)
    return bad, state
