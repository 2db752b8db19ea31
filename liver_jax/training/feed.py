"""Batches on the devices, augmented there, from slices of the host or of the devices; the waiting measured."""

import time
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from liver_jax.config import Config
from liver_jax.data.augment import augment_batch
from liver_jax.data.clock import Clock
from liver_jax.data.records import as_words
from liver_jax.data.store import SliceStore
from liver_jax.data.stream import train_batches
from liver_jax.runtime.distributed import in_all, place
from liver_jax.runtime.mesh import batch_sharding, put_batch
from liver_jax.training.placement import ResidentSlices, fits_on_devices
from liver_jax.training.waiting import Waiting


class Feed:
    """The batches of a whole run, in order. Close it at the end."""

    def __init__(self, config: Config, store: SliceStore, rows: np.ndarray, mesh: Mesh, steps: int) -> None:
        """Raises UserError when the devices have no room for the slices that `data.placement` puts there."""
        self._mesh = mesh
        data = config.data
        resident = in_all(fits_on_devices(data, len(rows), mesh.local_devices))  # or else programs would differ
        self.placement = 'device' if resident else 'host'
        self._slices = ResidentSlices(store, rows, data.target, mesh) if resident else None
        clock = Clock()
        self.waiting = Waiting(clock)
        self._stream = train_batches(
            store, rows, data.target, config.augment, config.train.batch_size, steps, config.seed,
            gather=not resident, clock=clock, process=place(),
        )  # fmt: skip
        self._augment = jax.jit(augment_records, static_argnames='layout', out_shardings=batch_sharding(mesh))

    def next_batch(self, under_way: jax.Array | None) -> dict[str, jax.Array]:
        """The next 'image' and 'mask' float32 [B, H, W, 1]; `under_way` is of the step that the devices are at."""
        self.waiting.step(under_way)
        asked = time.perf_counter()
        batch = next(self._stream)
        streamed = time.perf_counter()
        names = ('places',) if self._slices else ('image', 'mask')
        device = put_batch({'draws': as_words(batch['draws']), **{name: batch[name] for name in names}}, self._mesh)
        if self._slices:
            device['image'], device['mask'] = self._slices.take(device['places'])
        self.waiting.batch(list(device.values()), asked, streamed)
        return self._augment(device['image'], device['mask'], device['draws'], layout=batch['draws'].dtype)

    def get_state(self) -> dict[str, int]:
        """The position: that of the next batch."""
        return self._stream.get_state()

    def set_state(self, position: dict[str, int]) -> None:
        """Go on from a position."""
        self._stream.set_state(position)

    def close(self) -> None:
        """End the threads of the stream and of the meter."""
        self._stream.close()
        self.waiting.close()


def augment_records(
    images: jax.Array, masks: jax.Array, words: jax.Array, layout: np.dtype[Any]
) -> dict[str, jax.Array]:
    """`augment_batch` with draws as they are transferred: uint32 words [B, words] of records with this layout."""
    return augment_batch(images, masks, _draws(words, layout))


def _draws(words: jax.Array, layout: np.dtype[Any]) -> dict[str, jax.Array]:
    """The arrays that the records were made of, bit by bit."""
    draws = {}
    for name, (kind, offset, *_) in (layout.fields or {}).items():
        first = offset // 4
        field = words[:, first : first + kind.itemsize // 4].reshape(-1, *kind.shape)
        draws[name] = jax.lax.bitcast_convert_type(field, kind.base)
    return draws
