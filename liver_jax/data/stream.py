"""The grain pipelines: batches of slices with their augmentation draws, a function of (seed, step) alone.

Order, draws and gathering work on whole batches: per-slice Python would cost fifty times as much. No JAX here.
"""

import threading
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import grain
import numpy as np

from liver_jax.config import AugmentConfig
from liver_jax.data.clock import Clock
from liver_jax.data.draws import draw
from liver_jax.data.records import to_records
from liver_jax.data.store import SliceStore

Batch = dict[str, Any]
# One thread: with two the allocator gives memory back and faults it in again, at 32 slices half the speed.
_READ = grain.ReadOptions(num_threads=1, prefetch_buffer_size=8)
_DRAWN_TOGETHER = 256  # slices; the draws depend on it


def train_batches(
    store: SliceStore,
    rows: np.ndarray,
    target: str,
    augment: AugmentConfig,
    batch_size: int,
    steps: int,
    seed: int,
    *,
    gather: bool = True,
    clock: Clock | None = None,
) -> grain.IterDataset[Batch]:
    """`steps` batches in a new order each epoch: 'places' [B] in `rows`, 'rows' [B] of the store, records 'draws' [B].

    With `gather` also uint8 'image' and 'mask' [B, H, W]; without it they are taken elsewhere, by 'places'. `clock`
    counts the seconds of the stages 'order', 'draw' and 'gather'.

    Epochs follow one another without a gap, so every slice is seen equally often. The position of its iterator is
    `{'next_index': step}`.
    """
    clock = clock or Clock()
    stream = (
        grain.MapDataset.range(steps)
        .map(clock.timed('order', _Order(rows, batch_size, seed).map))
        .map(clock.timed('draw', _Draw(augment, batch_size, seed).map))
    )
    if gather:
        stream = stream.map(clock.timed('gather', _Gather(store, target).map))
    return stream.to_iter_dataset(_READ)


def eval_batches(store: SliceStore, rows: np.ndarray, target: str, batch_size: int) -> grain.IterDataset[Batch]:
    """All `rows` once, in order; the last batch is filled up with its first row again, 'valid' [B] false there."""
    steps = -(-len(rows) // batch_size)
    return (
        grain.MapDataset.range(steps)
        .map(_Sequence(rows, batch_size))
        .map(_Gather(store, target))
        .to_iter_dataset(_READ)
    )


def steps_per_epoch(slices: int, batch_size: int) -> int:
    """Steps after which every slice has been seen about once."""
    return max(1, round(slices / batch_size))


class _Order(grain.transforms.Map):
    """step -> places and rows of that batch, from one seeded permutation per epoch."""

    def __init__(self, rows: np.ndarray, batch_size: int, seed: int) -> None:
        self._rows, self._batch_size = rows, batch_size
        places = np.arange(len(rows), dtype=np.int32)
        self._permutation = _kept(lambda epoch: np.random.default_rng([seed, epoch]).permutation(places))

    def map(self, step: int) -> Batch:
        positions = np.arange(step * self._batch_size, (step + 1) * self._batch_size)
        epochs, within = np.divmod(positions, len(self._rows))
        parts = [self._permutation(e)[within[epochs == e]] for e in range(int(epochs[0]), int(epochs[-1]) + 1)]
        places = np.concatenate(parts)
        return {'step': step, 'places': places, 'rows': self._rows[places]}


class _Sequence(grain.transforms.Map):
    """step -> rows of that batch in order, filled up at the end."""

    def __init__(self, rows: np.ndarray, batch_size: int) -> None:
        self._rows, self._batch_size = rows, batch_size

    def map(self, step: int) -> Batch:
        rows = self._rows[step * self._batch_size : (step + 1) * self._batch_size]
        padding = self._batch_size - len(rows)
        valid = np.arange(self._batch_size) < len(rows)
        return {'rows': np.concatenate([rows, np.repeat(rows[:1], padding)]), 'valid': valid}


class _Draw(grain.transforms.Map):
    """Adds the augmentation draws of the batch, a function of (seed, step).

    Numpy takes nearly as long to draw for 16 slices as for 256: draws are made for several steps at once.
    """

    def __init__(self, config: AugmentConfig, batch_size: int, seed: int) -> None:
        self._batch_size, self._steps = batch_size, max(1, _DRAWN_TOGETHER // batch_size)

        def records(chunk: int) -> np.ndarray:
            # With a spawn key no chunk can meet the seeds of the order.
            rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(chunk,)))
            return to_records(draw(config, rng, self._steps * batch_size))

        self._records = _kept(records)

    def map(self, batch: Batch) -> Batch:
        chunk, step = divmod(batch['step'], self._steps)
        records = self._records(chunk)[step * self._batch_size : (step + 1) * self._batch_size]
        return {**batch, 'draws': records}


class _Gather(grain.transforms.Map):
    """Adds images and masks of the batch's rows."""

    def __init__(self, store: SliceStore, target: str) -> None:
        self._store, self._target = store, target

    def map(self, batch: Batch) -> Batch:
        rows = batch['rows']
        return {**batch, 'image': self._store.images(rows), 'mask': self._store.masks(rows, self._target)}


def _kept(function: Callable[[int], np.ndarray]) -> Callable[[int], np.ndarray]:
    """`function`, its last few results kept; threads that ask for the same one at once compute it once."""
    cached, lock = lru_cache(4)(function), threading.Lock()

    def call(number: int) -> np.ndarray:
        with lock:
            return cached(number)

    return call
