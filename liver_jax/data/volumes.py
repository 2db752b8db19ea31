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
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError, HeaderTypeError

from liver_jax.data.layouts import Case
from liver_jax.errors import UserError

CANONICAL = ('L', 'P', 'S')
UNREADABLE = (OSError, ValueError, EOFError, zlib.error, MemoryError, ImageFileError, HeaderDataError, HeaderTypeError)
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
    image = _open(case.images[0])
    label = _open(case.labels[0])
    if image.shape != label.shape:
        raise UserError(
            f'{case.labels[0]}: shape {_times(label.shape)}, but {case.images[0].name} has {_times(image.shape)}; '
            'expected the same number of voxels, export the segmentation on the grid of its volume'
        )
    labels = _labels(case.labels[0], _array(case.labels[0], label))
    hu = _array(case.images[0], image)
    if hu.dtype.kind == 'f' and not np.isfinite(hu).all():
        raise UserError(f'{case.images[0]}: NaN or infinite voxels; expected finite HU, replace them (air is -1000)')
    if _is_singular(image.affine):
        raise UserError(
            f'{case.images[0]}: its affine is singular; expected one that maps voxels to mm, repair the header'
        )
    orientation = nib.orientations.io_orientation(image.affine)
    transform = nib.orientations.ornt_transform(orientation, nib.orientations.axcodes2ornt(CANONICAL))
    spacing = np.asarray(image.header.get_zooms()[:3], float)[np.argsort(transform[:, 0])]
    x, y, z = (float(mm) for mm in spacing)
    if not all(0 < mm < np.inf for mm in (x, y, z)):
        raise UserError(f'{case.images[0]}: voxel spacing {x}x{y}x{z} mm; expected positive numbers, repair the header')
    return Volume(
        hu=_canonical(hu, transform),
        labels=_canonical(labels, transform),
        spacing=(z, y, x),
        orientation=''.join(nib.orientations.ornt2axcodes(orientation)),
        shape=tuple(image.shape),
    )


def write_nifti(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    """Write `array` [i, j, k] with its voxel-to-mm `affine` (4x4, RAS+); compressed if the name ends in .gz. Atomic."""
    ending = '.nii.gz' if path.name.endswith('.gz') else '.nii'
    partial = path.with_name(f'.{path.name}.{os.getpid()}{ending}')
    try:
        nib.save(nib.Nifti1Image(array, affine), partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _open(path: Path) -> nib.Nifti1Image:
    try:
        image = nib.load(path)
    except UNREADABLE as error:
        raise UserError(f'{path}: not a readable NIfTI file ({_brief(error)}); download it again') from error
    if not isinstance(image, nib.Nifti1Image | nib.Nifti1Pair) or len(image.shape) != 3 or min(image.shape) < 1:
        raise UserError(f'{path}: an image of shape {_times(image.shape)}; expected a NIfTI volume with three axes')
    if image.get_data_dtype().kind not in 'iuf':
        raise UserError(f'{path}: voxels of type {image.get_data_dtype()}; expected one whole or real number each')
    return image


def _array(path: Path, image: nib.Nifti1Image) -> np.ndarray:
    """The voxels: as stored where the file is not scaled (int16 stays int16), else float32."""
    proxy = image.dataobj
    try:
        if (proxy.slope, proxy.inter) == (1, 0):
            return np.asanyarray(proxy)
        return image.get_fdata(dtype=np.float32, caching='unchanged')
    except UNREADABLE as error:
        raise UserError(f'{path}: its voxels cannot be read ({_brief(error)}); download it again') from error


def _labels(path: Path, array: np.ndarray) -> np.ndarray:
    labels = np.zeros(array.shape, np.uint8)
    for value in (1, 2):
        labels[array == value] = value
    if not np.array_equal(labels, array):
        strange = np.unique(array[labels != array])
        found = ', '.join(f'{value:.9g}' for value in strange[:5]) + (', …' if len(strange) > 5 else '')
        raise UserError(f'{path}: labels {found}; expected only 0 (background), 1 (liver) and 2 (tumour)')
    return labels


def _is_singular(affine: np.ndarray) -> bool:
    """Asked before io_orientation, which fails on NaN and takes axes that run along one another."""
    if not np.isfinite(affine).all():
        return True
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    return not lengths.all() or bool(abs(np.linalg.det(affine[:3, :3] / lengths)) < 1e-3)


def _canonical(array: np.ndarray, transform: np.ndarray) -> np.ndarray:
    return nib.orientations.apply_orientation(array, transform).transpose(2, 1, 0)


def _times(shape: tuple[int, ...]) -> str:
    return 'x'.join(map(str, shape))


def _brief(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]
