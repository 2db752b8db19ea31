"""The grain pipelines: batches of slices with their augmentation draws, a function of (seed, step) alone.

Order, draws and gathering work on many slices at once: Python and numpy take nearly as long for one. No JAX here.
"""

from functools import lru_cache
from typing import Any

import grain
import numpy as np

from liver_jax.config import AugmentConfig
from liver_jax.data.buffers import Buffers
from liver_jax.data.clock import Clock
from liver_jax.data.draws import draw
from liver_jax.data.records import to_records
from liver_jax.data.store import SliceStore

Batch = dict[str, Any]
_READ = grain.ReadOptions(num_threads=2, prefetch_buffer_size=8)
# One thread: the work is numpy's on memory, and a second one would take turns with it.
_READ_TOGETHER = grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)
_TOGETHER = 128  # slices of consecutive steps that are made at once; the draws depend on it
_MOST_PIXELS = 128 * 256**2  # of those, so that large slices do not fill the memory


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
    process: tuple[int, int] = (0, 1),
) -> 'TrainBatches':
    """`steps` batches in a new order each epoch: 'places' [B] in `rows`, 'rows' [B] of the store, records 'draws' [B].

    With `gather` also uint8 'image' and 'mask' [B, H, W]; without it they are taken elsewhere, by 'places'. `clock`
    counts the seconds of the stages 'order', 'draw' and 'gather'. Of several processes, `process` (index, count), each
    gets its consecutive part of every batch: B is then its share, and the whole is the same for any number of them.

    Epochs follow one another without a gap, so every slice is seen equally often. The position is
    `{'next_index': step}`.
    """
    pixels = store.manifest['settings']['image_size'] ** 2
    clock, together = clock or Clock(), max(1, min(_TOGETHER, _MOST_PIXELS // pixels) // batch_size)
    share = _Share(batch_size, *process)
    stream = (
        grain.MapDataset.range(-(-steps // together))
        .seed(seed)
        .map(clock.timed('order', _Order(rows, together * batch_size, seed).map))
        .random_map(clock.timed('draw', _Draw(augment).random_map))
        .map(share.map)
    )
    if gather:
        stream = stream.map(clock.timed('gather', _Gather(store, target).map))
    return TrainBatches(iter(stream.to_iter_dataset(_READ_TOGETHER)), share.size, together, steps)


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


class TrainBatches:
    """Batches in order, cut from what grain makes for several steps at once."""

    def __init__(self, chunks: grain.DatasetIterator[Batch], batch_size: int, together: int, steps: int) -> None:
        self._chunks, self._chunk = chunks, Batch()
        self._batch_size, self._together, self._steps = batch_size, together, steps
        self._step = 0

    def __iter__(self) -> 'TrainBatches':
        return self

    def __next__(self) -> Batch:
        if self._step >= self._steps:
            raise StopIteration
        within = self._step % self._together
        if not within or not self._chunk:
            self._chunk = next(self._chunks)
        self._step += 1
        start = within * self._batch_size
        return {name: values[start : start + self._batch_size] for name, values in self._chunk.items()}

    def get_state(self) -> dict[str, int]:
        """The position: that of the next batch."""
        return {'next_index': self._step}

    def set_state(self, position: dict[str, int]) -> None:
        """Go on from a position."""
        self._step, self._chunk = position['next_index'], {}
        self._chunks.set_state({'next_index': self._step // self._together})

    def close(self) -> None:
        """End the thread that reads."""
        self._chunks.close()


class _Order(grain.transforms.Map):
    """index -> places and rows of the next `count` slices, from one seeded permutation per epoch."""

    def __init__(self, rows: np.ndarray, count: int, seed: int) -> None:
        self._rows, self._count = rows, count
        places = np.arange(len(rows), dtype=np.int32)
        self._permutation = lru_cache(4)(lambda epoch: np.random.default_rng([seed, epoch]).permutation(places))

    def map(self, index: int) -> Batch:
        positions = np.arange(index * self._count, (index + 1) * self._count)
        epochs, within = np.divmod(positions, len(self._rows))
        parts = [self._permutation(e)[within[epochs == e]] for e in range(int(epochs[0]), int(epochs[-1]) + 1)]
        places = np.concatenate(parts)
        return {'places': places, 'rows': self._rows[places]}


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
    """Adds the augmentation draws."""

    def __init__(self, config: AugmentConfig) -> None:
        self._config = config

    def random_map(self, batch: Batch, rng: np.random.Generator) -> Batch:
        return {**batch, 'draws': to_records(draw(self._config, rng, len(batch['rows'])))}


class _Share:
    """What one process takes of each batch of a chunk."""

    def __init__(self, batch_size: int, index: int, count: int) -> None:
        self.size = batch_size // count
        self._batch_size, self._index, self._count = batch_size, index, count

    def map(self, chunk: Batch) -> Batch:
        if self._count == 1:
            return chunk
        within = np.arange(len(chunk['rows'])) % self._batch_size // self.size
        return {name: values[within == self._index] for name, values in chunk.items()}


class _Gather(grain.transforms.Map):
    """Adds images and masks of the batch's rows."""

    def __init__(self, store: SliceStore, target: str) -> None:
        self._store, self._target, self._buffers = store, target, Buffers()

    def map(self, batch: Batch) -> Batch:
        rows = batch['rows']
        image = self._store.images(rows, self._buffers)
        return {**batch, 'image': image, 'mask': self._store.masks(rows, self._target, self._buffers)}
