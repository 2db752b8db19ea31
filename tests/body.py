"""Random bodies large enough for anatomy to tell: blobs of organs and bone in an oval of fat, on a coarse grid."""

from pathlib import Path

import numpy as np
from scipy import ndimage

from liver_jax.data.formats.nifti import write_nifti

SPACING = (8.0, 5.0, 5.0)  # mm: slice, row, column
SIZE = (22, 64, 64)
AFFINE = np.diag([-SPACING[2], -SPACING[1], SPACING[0], 1.0])  # axes (column, row, slice) of the canonical frame


def body(seed: int) -> np.ndarray:
    """HU int16 [slices, rows, columns] of one person."""
    rng = np.random.default_rng(seed)
    texture = ndimage.gaussian_filter(rng.standard_normal(SIZE), (1.2, 2.0, 2.0))
    texture /= texture.std()
    hu = np.where(texture > 1.6, 230.0, np.where(texture > 0.2, 80.0, np.where(texture > -1.3, 20.0, -90.0)))
    rows, columns = np.mgrid[: SIZE[1], : SIZE[2]]
    inside = ((rows - 32) / rng.uniform(22, 26)) ** 2 + ((columns - 32) / rng.uniform(27, 30)) ** 2 < 1
    hu = np.where(inside, hu, -1000) + rng.normal(0, 8, SIZE)
    return hu.astype(np.int16)


def second_visit(hu: np.ndarray, seed: int = 0) -> np.ndarray:
    """The same person later: breathing, a few degrees turned, other contrast, noise, fewer slices."""
    rng = np.random.default_rng(seed)
    bend = ndimage.gaussian_filter(rng.standard_normal((3, *hu.shape)), (0, 3, 8, 8))
    bend *= np.array([0.3, 0.6, 0.6])[:, None, None, None] / bend.std()
    moved = ndimage.map_coordinates(hu.astype(float), np.indices(hu.shape) + bend, order=1, mode='nearest')
    turned = ndimage.rotate(moved, 4, axes=(1, 2), reshape=False, order=1, cval=-1000)
    contrast = np.where((turned > 60) & (turned < 180), turned - 15, turned)
    return (contrast + rng.normal(0, 10, hu.shape)).astype(np.int16)[3:]


def labels_of(hu: np.ndarray) -> np.ndarray:
    """A liver of 12 x 12 pixels, and a lesion in it, in the middle slices."""
    labels = np.zeros(hu.shape, np.uint8)
    middle = len(hu) // 2
    labels[middle - 3 : middle + 3, 20:32, 14:26] = 1
    labels[middle - 1 : middle + 1, 24:28, 18:22] = 2
    return labels


def write_body(folder: Path, number: int, hu: np.ndarray, labels: np.ndarray | None = None) -> None:
    """volume-N.nii.gz and segmentation-N.nii.gz."""
    labels = labels_of(hu) if labels is None else labels
    write_nifti(folder / f'volume-{number}.nii.gz', hu.transpose(2, 1, 0), AFFINE)
    write_nifti(folder / f'segmentation-{number}.nii.gz', labels.transpose(2, 1, 0), AFFINE)
