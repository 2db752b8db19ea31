"""The grain pipelines: batches of slices with their augmentation draws, a function of (seed, step) alone.

Order, draws and gathering work on whole batches: per-slice Python would cost fifty times as much. No JAX here.
"""

from functools import lru_cache
from typing import Any

import grain
import numpy as np

from liver_jax.config import AugmentConfig
from liver_jax.data.draws import draw
from liver_jax.data.store import SliceStore

Batch = dict[str, Any]
_READ = grain.ReadOptions(num_threads=2, prefetch_buffer_size=8)


def train_batches(
    store: SliceStore,
    rows: np.ndarray,
    target: str,
    augment: AugmentConfig,
    batch_size: int,
    steps: int,
    seed: int,
) -> grain.IterDataset[Batch]:
    """`steps` batches in a new order each epoch: uint8 'image' and 'mask' [B, H, W], 'draws', 'rows' [B] of the store.

    Epochs follow one another without a gap, so every slice is seen equally often. The position of its iterator is
    `{'next_index': step}`.
    """
    return (
        grain.MapDataset.range(steps)
        .seed(seed)
        .map(_Order(rows, batch_size, seed))
        .random_map(_Draw(augment))
        .map(_Gather(store, target))
        .to_iter_dataset(_READ)
    )


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
    """step -> rows of that batch, from one seeded permutation per epoch."""

    def __init__(self, rows: np.ndarray, batch_size: int, seed: int) -> None:
        self._rows, self._batch_size = rows, batch_size
        self._permutation = lru_cache(4)(lambda epoch: np.random.default_rng([seed, epoch]).permutation(rows))

    def map(self, step: int) -> Batch:
        positions = np.arange(step * self._batch_size, (step + 1) * self._batch_size)
        epochs, places = np.divmod(positions, len(self._rows))
        return {'rows': np.concatenate([self._permutation(e)[places[epochs == e]] for e in np.unique(epochs).tolist()])}


class _Sequence(grain.transforms.Map):
    """step -> rows of that batch in order, filled up at the end."""

    def __init__(self, rows: np.ndarray, batch_size: int) -> None:
        self._rows, self._batch_size = rows, batch_size

    def map(self, step: int) -> Batch:
        rows = self._rows[step * self._batch_size : (step + 1) * self._batch_size]
        padding = self._batch_size - len(rows)
        valid = np.arange(self._batch_size) < len(rows)
        return {'rows': np.concatenate([rows, np.repeat(rows[:1], padding)]), 'valid': valid}


class _Draw(grain.transforms.RandomMap):
    """Adds the augmentation draws of the batch."""

    def __init__(self, config: AugmentConfig) -> None:
        self._config = config

    def random_map(self, batch: Batch, rng: np.random.Generator) -> Batch:
        return {**batch, 'draws': draw(self._config, rng, len(batch['rows']))}


class _Gather(grain.transforms.Map):
    """Adds images and masks of the batch's rows."""

    def __init__(self, store: SliceStore, target: str) -> None:
        self._store, self._target = store, target

    def map(self, batch: Batch) -> Batch:
        rows = batch['rows']
        return {**batch, 'image': self._store.images(rows), 'mask': self._store.masks(rows, self._target)}
