"""Reading and writing NIfTI, and turning arrays into the canonical frame; the one importer of nibabel."""

import logging
import os
import zlib
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.fileholders import FileHolder
from nibabel.openers import ImageOpener
from nibabel.spatialimages import HeaderDataError, HeaderTypeError

from liver_jax.data.formats.raster import Raster
from liver_jax.errors import UserError

logging.getLogger('nibabel.global').setLevel(logging.CRITICAL)  # what a damaged header lacks, the error says
CANONICAL = ('L', 'P', 'S')
UNREADABLE = (
    OSError, ValueError, EOFError, zlib.error, MemoryError, OverflowError, ImageFileError, HeaderDataError,
    HeaderTypeError,
)  # fmt: skip
LONGEST = 4096  # voxels along an axis; no CT has more, damaged headers claim it
DEFLATE = 1032  # gzip cannot make a file smaller by more than this factor


def read_nifti(path: Path) -> Raster:
    """A NIfTI volume; its affine places it. Further axes of length 1, which some tools write, are left out.

    Raises:
        UserError: unreadable, not three-dimensional, not of one number a voxel, or not as large as its header says.
    """
    try:
        image = nib.load(path)
        stored, dtype = image.shape, image.get_data_dtype()
    except PermissionError as error:
        raise UserError(f'{path}: no permission to read it; expected a readable file, see chmod') from error
    except UNREADABLE as error:
        raise UserError(f'{path}: not a readable NIfTI file ({_brief(error)}); download it again') from error
    shape, more = stored[:3], int(np.prod(stored[3:], dtype=object))
    if more > 1:
        raise UserError(f'{path}: {more} volumes in one file (shape {times(stored)}); expected one, take them apart')
    if not isinstance(image, nib.Nifti1Image) or len(shape) != 3 or min(stored) < 1:
        raise UserError(f'{path}: an image of shape {times(stored)}; expected a NIfTI volume with three axes')
    if dtype.kind not in 'iuf':
        raise UserError(f'{path}: voxels of type {dtype}; expected one whole or real number each')
    file, promised = path.stat().st_size, int(np.prod(shape, dtype=object)) * dtype.itemsize
    if max(shape) > LONGEST or promised > file * (DEFLATE if path.name.endswith('.gz') else 1):
        raise UserError(
            f'{path}: its voxels cannot be read ({times(shape)} by its header, in a file of {file:,} bytes); '
            'download it again'
        )

    def planes() -> Generator[np.ndarray, None, None]:
        # One stream for all planes: nibabel's own way would decompress from the start for each.
        with ImageOpener(str(path)) as file:
            proxy = type(image).from_file_map({'image': FileHolder(fileobj=file)}).dataobj
            as_stored = (proxy.slope, proxy.inter) == (1, 0)  # int16 stays int16, the rest becomes float32
            for k in range(shape[2]):
                try:
                    plane = np.asarray(proxy[(slice(None), slice(None), k, *(0 for _ in stored[3:]))])
                except UNREADABLE as error:
                    raise UserError(
                        f'{path}: its voxels cannot be read ({_brief(error)}); download it again'
                    ) from error
                yield plane.astype(plane.dtype.newbyteorder('=') if as_stored else np.float32, copy=False)

    return Raster(path, shape, image.affine, planes, _spacing_note(image))


def write_nifti(
    path: Path, array: np.ndarray, affine: np.ndarray, like: Path | None = None, slope: float = 1.0
) -> None:
    """Write `array` [i, j, k] with its voxel-to-mm `affine` (4x4, RAS+); compressed if the name ends in .gz. Atomic.

    The header is that of the NIfTI file `like`, but for what it says of voxel values. Readers get array x `slope`.
    """
    ending = '.nii.gz' if path.name.endswith('.gz') else '.nii'
    partial = path.with_name(f'.{path.name}.{os.getpid()}{ending}')
    try:
        nib.save(_image(array, affine, like, slope), partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _image(array: np.ndarray, affine: np.ndarray, like: Path | None, slope: float) -> Any:
    model = nib.load(like) if like else nib.Nifti1Image(array, affine)
    header = model.header.copy()
    header.set_data_dtype(array.dtype)
    header.set_intent('none')
    header['cal_min'] = header['cal_max'] = 0
    image = type(model)(array, affine, header)
    if slope != 1:
        image.header.set_slope_inter(slope, 0)
    return image


def axes_of(affine: np.ndarray) -> str:
    """Where the axes of an array with this affine run to, such as 'LAS'."""
    return ''.join(nib.orientations.aff2axcodes(affine))


def to_canonical(affine: np.ndarray) -> np.ndarray:
    """nibabel's orientation transform from an array with this affine to the canonical frame."""
    found = nib.orientations.io_orientation(affine)
    return nib.orientations.ornt_transform(found, nib.orientations.axcodes2ornt(CANONICAL))


def canonical(array: np.ndarray, transform: np.ndarray) -> np.ndarray:
    """[i, j, k] -> [slice, row, column]."""
    return nib.orientations.apply_orientation(array, transform).transpose(2, 1, 0)


def canonical_affine(affine: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """The affine of [slice, row, column], of an array of this shape with this affine."""
    return (affine @ nib.orientations.inv_ornt_aff(to_canonical(affine), shape))[:, [2, 1, 0, 3]]


def _spacing_note(image: nib.Nifti1Image) -> tuple[str, ...]:
    header, affine = np.asarray(image.header.get_zooms()[:3], float), np.linalg.norm(image.affine[:3, :3], axis=0)
    if np.allclose(header, affine, rtol=0.01):
        return ()
    both = ['x'.join(f'{mm:.3g}' for mm in spacing) for spacing in (header, affine)]
    return (f'its header gives {both[0]} mm beside an affine of {both[1]} mm; the affine is used',)


def times(shape: Sequence[int]) -> str:
    """A shape as people write it."""
    return 'x'.join(map(str, shape))


def _brief(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]
