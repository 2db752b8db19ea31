"""Reading and writing NIfTI volumes; the one importer of nibabel.

Everything leaves here in one canonical frame: axes (slice, row, column) towards the patient's head, back and left,
so that a slice shown with row 0 on top is the radiological view.
"""

import dataclasses
import os
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np

from liver_jax.data.layouts import Case
from liver_jax.errors import UserError

CANONICAL = ('L', 'P', 'S')
LABELS = {0: 'background', 1: 'liver', 2: 'tumour'}


@dataclasses.dataclass(frozen=True)
class Volume:
    """One case in the canonical frame.

    `hu` [slices, rows, columns] in Hounsfield units (int16, or float32 where the file is scaled), `labels` the same
    shape in {0, 1, 2} (uint8), `spacing` in mm along these axes; `orientation` and `shape` are those of the file.
    """

    hu: np.ndarray
    labels: np.ndarray
    spacing: tuple[float, float, float]
    orientation: str
    shape: tuple[int, int, int]


def read_case(case: Case) -> Volume:
    """Read image and labels of a case. They are aligned by array index; geometry is the image's.

    Raises:
        UserError: unreadable file, not three-dimensional, shapes that differ, labels outside {0, 1, 2}, NaN.
    """
    image = _open(case.image)
    label = _open(case.label)
    if image.shape != label.shape:
        raise UserError(
            f'{case.label}: shape {_times(label.shape)}, but {case.image.name} has {_times(image.shape)}; '
            'expected the same number of voxels, export the segmentation on the grid of its volume'
        )
    labels = _labels(case.label, _array(case.label, label))
    hu = _array(case.image, image)
    if hu.dtype.kind == 'f' and not np.isfinite(hu).all():
        raise UserError(f'{case.image}: NaN or infinite voxels; expected finite HU, replace them (air is -1000)')
    orientation = nib.orientations.io_orientation(image.affine)
    if np.isnan(orientation).any():
        raise UserError(f'{case.image}: its affine is singular; expected one that maps voxels to mm, repair the header')
    transform = nib.orientations.ornt_transform(orientation, nib.orientations.axcodes2ornt(CANONICAL))
    spacing = np.asarray(image.header.get_zooms()[:3], float)[np.argsort(transform[:, 0])]
    x, y, z = (float(mm) for mm in spacing)
    if min(x, y, z) <= 0:
        raise UserError(f'{case.image}: voxel spacing {x}x{y}x{z} mm; expected positive numbers, repair the header')
    return Volume(
        hu=_canonical(hu, transform),
        labels=_canonical(labels, transform),
        spacing=(z, y, x),
        orientation=''.join(nib.orientations.ornt2axcodes(orientation)),
        shape=image.shape,
    )


def write_nifti(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    """Write `array` [i, j, k] with its voxel-to-mm `affine` (4x4, RAS+); compressed if the name ends in .gz. Atomic."""
    ending = '.nii.gz' if path.name.endswith('.gz') else '.nii'
    partial = path.with_name(f'.{path.name}.{os.getpid()}{ending}')
    nib.save(nib.Nifti1Image(array, affine), partial)
    os.replace(partial, path)


def _open(path: Path) -> nib.Nifti1Image:
    try:
        image = nib.load(path)
    except (OSError, ValueError, EOFError, zlib.error, nib.filebasedimages.ImageFileError) as error:
        raise UserError(f'{path}: not a readable NIfTI file ({_brief(error)}); download it again') from error
    if not isinstance(image, nib.Nifti1Image | nib.Nifti1Pair) or len(image.shape) != 3:
        raise UserError(f'{path}: an image of shape {_times(image.shape)}; expected a NIfTI volume with three axes')
    return image


def _array(path: Path, image: nib.Nifti1Image) -> np.ndarray:
    """The voxels: as stored where the file is not scaled (int16 stays int16), else float32."""
    proxy = image.dataobj
    try:
        if (proxy.slope, proxy.inter) == (1, 0):
            return np.asanyarray(proxy)
        return image.get_fdata(dtype=np.float32, caching='unchanged')
    except (OSError, ValueError, EOFError, zlib.error, MemoryError) as error:
        raise UserError(f'{path}: its voxels cannot be read ({_brief(error)}); download it again') from error


def _labels(path: Path, array: np.ndarray) -> np.ndarray:
    labels = np.zeros(array.shape, np.uint8)
    for value in (1, 2):
        labels[array == value] = value
    if not np.array_equal(labels, array):
        found = ', '.join(f'{value:g}' for value in np.unique(array)[:8])
        raise UserError(f'{path}: labels {found}; expected only 0 (background), 1 (liver) and 2 (tumour)')
    return labels


def _canonical(array: np.ndarray, transform: np.ndarray) -> np.ndarray:
    return nib.orientations.apply_orientation(array, transform).transpose(2, 1, 0)


def _times(shape: tuple[int, ...]) -> str:
    return 'x'.join(map(str, shape))


def _brief(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]
