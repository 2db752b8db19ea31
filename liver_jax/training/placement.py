"""Where the training slices lie: read from the store by the host, or all of them in the memory of every device."""

import logging
from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from liver_jax.config import DataConfig
from liver_jax.data.store import SliceStore
from liver_jax.errors import UserError
from liver_jax.runtime.mesh import put_whole, replicated

log = logging.getLogger(__name__)
EASILY = 4  # 'auto': the slices take at most one part in so many of the free memory
_MB = 1e6


class ResidentSlices:
    """Images and masks of the training split on every device; each takes its rows of a batch from its own copy."""

    def __init__(self, store: SliceStore, rows: np.ndarray, target: str, mesh: Mesh) -> None:
        """Raises UserError when a device has no room for them."""
        try:
            self._images = put_whole(store.images(rows), replicated(mesh)).block_until_ready()
            self._masks = put_whole(store.masks(rows, target), replicated(mesh)).block_until_ready()
        except jax.errors.JaxRuntimeError as error:
            if 'RESOURCE_EXHAUSTED' not in str(error):
                raise
            raise _no_room(2 * len(rows) * store.images(rows[:1]).size, 'less') from error
        everywhere, split = PartitionSpec(), PartitionSpec('data')
        self._take = jax.jit(
            jax.shard_map(_take, mesh=mesh, in_specs=(everywhere, everywhere, split), out_specs=(split, split))
        )

    def take(self, places: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Images and masks uint8 [B, H, W] at int32 places [B] of the split, all sharded alike."""
        images, masks = self._take(self._images, self._masks, places)
        return images, masks


def fits_on_devices(config: DataConfig, slices: int, devices: Sequence[jax.Device]) -> bool:
    """Whether `data.placement` puts the training split into device memory; says so in the log.

    Raises:
        UserError: it is 'device', and a device is known to have no room.
    """
    size = 2 * slices * config.image_size**2
    known = [free for device in devices if (free := free_memory(device)) is not None]
    least = min(known) if known else None
    if config.placement == 'device' and least is not None and size > least:
        raise _no_room(size, f'{least / _MB:,.0f} MB')
    if config.placement == 'auto':
        on_device = least is not None and EASILY * size <= least
    else:
        on_device = config.placement == 'device'
    room = 'free memory of the devices unknown' if least is None else f'{least / _MB:,.0f} MB free on a device'
    where = 'in the memory of each device' if on_device else 'read from the store by the host'
    log.info(
        'training slices %s: %s of them, %.0f MB (data.placement=%r; %s)',
        where, f'{slices:,}', size / _MB, config.placement, room,
    )  # fmt: skip
    return on_device


def free_memory(device: jax.Device) -> int | None:
    """Bytes that JAX may still allocate on a device; None where that is not known, as on CPUs."""
    stats = device.memory_stats()
    if not stats or 'bytes_limit' not in stats:
        return None
    return stats['bytes_limit'] - stats.get('bytes_in_use', 0)


def _take(images: jax.Array, masks: jax.Array, places: jax.Array) -> tuple[jax.Array, jax.Array]:
    return (
        images.at[places].get(mode='promise_in_bounds'),
        masks.at[places].get(mode='promise_in_bounds'),
    )


def _no_room(size: int, free: str) -> UserError:
    return UserError(
        f"config field data.placement is 'device', but the training slices take {size / _MB:,.0f} MB and a device has "
        f"{free} free; expected 'host' (or 'auto'), or a smaller data.image_size"
    )
