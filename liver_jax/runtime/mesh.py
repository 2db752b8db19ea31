"""One axis of devices: batches are split along it, the state is on all of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from liver_jax.errors import UserError


def make_mesh(devices: int | None = None) -> Mesh:
    """A mesh with the axis 'data' over the first `devices` devices (default: all those of all processes)."""
    return _mesh(jax.devices()[:devices])


def own_mesh() -> Mesh:
    """A mesh over the devices of this process, for work that it does alone."""
    return _mesh(jax.local_devices())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """First axis split over the devices."""
    return NamedSharding(mesh, PartitionSpec('data'))


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole on every device."""
    return NamedSharding(mesh, PartitionSpec())


def put_batch(batch: Mapping[str, Any], mesh: Mesh) -> dict[str, Any]:
    """Host arrays, nested dicts of them too -> device arrays split along the first axis.

    Of several processes each gives its part, in their order.
    """
    sharding = batch_sharding(mesh)
    if sharding.is_fully_addressable:  # one process: a single call for all arrays costs a third less
        return jax.device_put(dict(batch), sharding)
    with jax.transfer_guard_host_to_device('allow'):  # asked for here, though JAX does not count it as explicit
        return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), dict(batch))


def put_whole(array: np.ndarray, sharding: NamedSharding) -> jax.Array:
    """An array that every process has as a whole -> on the devices; each process sends its own devices their part."""
    if sharding.is_fully_addressable:
        return jax.device_put(array, sharding)
    return jax.make_array_from_callback(array.shape, sharding, lambda part: array[part])


def check_divisible(field: str, batch_size: int, mesh: Mesh, parts: int = 1) -> None:
    """Raise UserError unless the devices can share every one of so many parts of a batch evenly."""
    whole = mesh.size * parts
    if batch_size % whole:
        times = f' times train.accumulate, {parts}' if parts > 1 else ''
        raise UserError(
            f'config field {field} is {batch_size}; expected a multiple of the {mesh.size} devices{times}, '
            f'for instance {-(-batch_size // whole) * whole}'
        )


def _mesh(devices: Sequence[jax.Device]) -> Mesh:
    return jax.make_mesh((len(devices),), ('data',), axis_types=(AxisType.Auto,), devices=devices)
