"""A network on whole scans: every slice prepared as for training, its probabilities brought back to the scan's grid.

Planes stream through in batches, so memory does not grow with the scan. What comes out depends neither on the batch
size nor on the number of devices (within 1e-6: convolutions may sum in another order).
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from liver_jax.config import AugmentConfig
from liver_jax.data.augment import to_unit
from liver_jax.data.slices import prepare_image, restore_slice
from liver_jax.data.volumes import Plane, Scan
from liver_jax.errors import UserError
from liver_jax.evaluation.run import Run
from liver_jax.runtime.mesh import batch_sharding, put_batch, replicated

# Letter of an axis of the file -> the axis of canonical arrays along it, and whether it runs the other way.
_CANONICAL_AXIS = {'S': (0, False), 'I': (0, True), 'P': (1, False), 'A': (1, True), 'L': (2, False), 'R': (2, True)}


@dataclasses.dataclass(frozen=True)
class PredictedPlane:
    """One axial slice on the scan's own grid, in the canonical frame, `index` counted from the feet.

    `hu`, `labels` (uint8 in {0, 1, 2}, None where the case has none) and `probability` (float32 in [0, 1]) are
    [rows, columns]; `small`, the same probability before it was brought back, [side, side].
    """

    index: int
    hu: np.ndarray
    labels: np.ndarray | None
    probability: np.ndarray
    small: np.ndarray


@dataclasses.dataclass(frozen=True)
class Predictor:
    """Whatever gives probabilities for prepared slices.

    `function` takes uint8 [batch_size, side, side] to float32 of the same shape, on a device or on the host. `window`
    (HU) and `side` are what slices are prepared with.
    """

    function: Callable[[np.ndarray], Any]
    window: tuple[float, float]
    side: int
    batch_size: int


def make_predictor(run: Run, flips: bool = False) -> Predictor:
    """The network of a run over all its devices, compiled once.

    With `flips` the probabilities are averaged over the slice and its mirror images, those that it was trained with.

    Raises:
        UserError: `flips` for a network that was trained without.
    """
    mesh, size = run.mesh, run.config.eval.batch_size
    mirrored = _trained_flips(run.config.augment) if flips else ((),)
    step = jax.jit(
        lambda variables, images: _probability(run.model, mirrored, variables, images),
        in_shardings=(replicated(mesh), batch_sharding(mesh)),
        out_shardings=batch_sharding(mesh),
    )
    return Predictor(
        function=lambda images: step(run.variables, put_batch({'image': images}, mesh)['image']),
        window=run.config.data.window,
        side=run.config.data.image_size,
        batch_size=-(-size // mesh.size) * mesh.size,  # any batch gives the same, so one that devices can share
    )


def predict_scan(predictor: Predictor, scan: Scan) -> Iterator[PredictedPlane]:
    """Every slice of a scan with its probabilities, in the order of its file (from the feet up or from the head down).

    At most two batches of planes are held, one of them under way on the devices.

    Raises:
        UserError: damaged file, probabilities that are no numbers.
    """
    planes, waiting = scan.planes(), None
    while group := list(itertools.islice(planes, predictor.batch_size)):
        images = np.zeros((predictor.batch_size, predictor.side, predictor.side), np.uint8)  # one shape, one program
        for n, plane in enumerate(group):
            images[n] = prepare_image(plane.hu, predictor.window, predictor.side)
        dispatched = group, predictor.function(images)
        if waiting:
            yield from _restored(scan, *waiting)
        waiting = dispatched
    if waiting:
        yield from _restored(scan, *waiting)


def to_native(array: np.ndarray, scan: Scan) -> np.ndarray:
    """Canonical [slices, rows, columns] -> a view with the axes [i, j, k] of the scan's file, to go with its affine."""
    axes, turned = zip(*(_CANONICAL_AXIS[letter] for letter in scan.orientation), strict=True)
    return np.flip(array.transpose(axes), tuple(axis for axis in range(3) if turned[axis]))


def canonical_affine(scan: Scan) -> np.ndarray:
    """4x4: from canonical (slice, row, column) to mm in RAS+, the frame of NIfTI."""
    affine = np.eye(4)
    affine[:3, 3] = scan.image.affine[:3, 3]
    for column, letter, length in zip(scan.image.affine[:3, :3].T, scan.orientation, scan.image.shape, strict=True):
        axis, turned = _CANONICAL_AXIS[letter]
        affine[:3, axis] = -column if turned else column
        affine[:3, 3] += column * (length - 1) * turned
    return affine


def _restored(scan: Scan, group: list[Plane], probabilities: Any) -> Iterator[PredictedPlane]:
    for plane, small in zip(group, jax.device_get(probabilities), strict=False):  # the rest fills the batch up
        if not np.isfinite(small).all():
            raise UserError(
                f'{scan.image.path}: the network gives NaN in slice {plane.index}; expected probabilities, '
                'its training may have diverged: choose another --checkpoint'
            )
        probability = restore_slice(small, *plane.hu.shape)
        yield PredictedPlane(plane.index, plane.hu, plane.labels if scan.labels else None, probability, small)


def _probability(
    model: nn.Module, mirrored: tuple[tuple[int, ...], ...], variables: Any, images: jax.Array
) -> jax.Array:
    """uint8 [N, H, W] -> mean probability [N, H, W] over the images mirrored along these axes."""
    inputs = to_unit(images)
    total = jnp.zeros(images.shape)
    for axes in mirrored:
        logits: Any = model.apply(variables, jnp.flip(inputs, axes), train=False)
        total += jnp.flip(jax.nn.sigmoid(logits), axes)[..., 0]
    return total / len(mirrored)


def _trained_flips(augment: AugmentConfig) -> tuple[tuple[int, ...], ...]:
    """The axes of [N, H, W, C] to mirror along, of each image that was seen in training."""
    rows, columns = [(), (1,)] if augment.flip_rows else [()], [(), (2,)] if augment.flip else [()]
    mirrored = tuple((*row, *column) for row in rows for column in columns)
    if len(mirrored) == 1:
        raise UserError('--flips: augment.flip and augment.flip_rows are 0 in this run; expected a network that '
                        'was trained with mirrored slices, leave --flips out')  # fmt: skip
    return mirrored
