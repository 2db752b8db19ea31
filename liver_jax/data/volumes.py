"""Cases -> planes in one canonical frame; reading and writing NIfTI (the one importer of nibabel).

Axes are (slice, row, column) towards the patient's head, back and left, so that a slice shown with row 0 on top is the
radiological view. Planes come one at a time: a volume is held whole only where its file is not stored slice by slice.
"""

import dataclasses
import logging
import os
import zlib
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.fileholders import FileHolder
from nibabel.openers import ImageOpener
from nibabel.spatialimages import HeaderDataError, HeaderTypeError

from liver_jax.data.formats.dicom import read_segmentation, read_series
from liver_jax.data.formats.pictures import read_images, read_labels
from liver_jax.data.formats.raster import Raster
from liver_jax.data.layouts import Case
from liver_jax.errors import UserError

logging.getLogger('nibabel.global').setLevel(logging.CRITICAL)  # what a damaged header lacks, the error says
CANONICAL = ('L', 'P', 'S')
UNREADABLE = (
    OSError, ValueError, EOFError, zlib.error, MemoryError, OverflowError, ImageFileError, HeaderDataError,
    HeaderTypeError,
)  # fmt: skip
LONGEST = 4096  # voxels along an axis; no CT has more, damaged headers claim it
DEFLATE = 1032  # gzip cannot make a file smaller by more than this factor


@dataclasses.dataclass(frozen=True)
class Plane:
    """One axial slice, `index` counted from the feet: `hu` [rows, columns], `labels` the same in {0, 1, 2} (uint8)."""

    index: int
    hu: np.ndarray
    labels: np.ndarray


@dataclasses.dataclass(frozen=True)
class Scan:
    """A case opened: geometry in the canonical frame, and the way back to the native grid.

    `size` (slices, rows, columns) and `spacing` (mm) are along the canonical axes; `shape`, `orientation` and `affine`
    (4x4 to mm in RAS+) are those of the image file. `labels` is None where the case has none.
    """

    case: Case
    image: Raster
    labels: Raster | None
    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    orientation: str

    @property
    def by_plane(self) -> bool:
        """Whether the file holds one axial slice after the other, so that one at a time can be read."""
        return self.orientation[2] in 'SI'

    @property
    def held_gb(self) -> float:
        """Gigabytes that reading keeps in memory at once, at most."""
        return 5e-9 * float(np.prod(self.size[1:] if self.by_plane else self.size))  # float32 and uint8

    def describe(self) -> dict[str, Any]:
        """Geometry as plain data: what takes slices back to the grid of their file."""
        return {
            'shape': list(self.image.shape),
            'orientation': self.orientation,
            'spacing_mm': [round(mm, 6) for mm in self.spacing],
            'affine': [[round(float(x), 6) for x in row] for row in self.image.affine[:3]],
        }

    def planes(self) -> Iterator[Plane]:
        """All slices, from the feet up or from the head down, as the file has them.

        Raises:
            UserError: damaged file, NaN or infinite HU, labels outside {0, 1, 2}.
        """
        with closing(self._pairs()) as pairs:
            transform = _to_canonical(self.image.affine)
            if self.by_plane:
                for k, pair in enumerate(pairs):
                    index = k if self.orientation[2] == 'S' else self.size[0] - 1 - k
                    yield Plane(index, *(_canonical(array[:, :, None], transform)[0] for array in pair))
            else:
                hu, labels = (_canonical(array, transform) for array in _filled(self.image.shape, pairs))
                yield from (Plane(k, hu[k], labels[k]) for k in range(len(hu)))

    def _pairs(self) -> Generator[tuple[np.ndarray, np.ndarray], None, None]:
        """HU and labels [i, j] for k = 0, 1, …; an error, too, closes the files."""
        with closing(self.image.planes()) as images:
            if self.labels is None:
                yield from ((_finite(self.image.path, hu), np.zeros(hu.shape, np.uint8)) for hu in images)
                return
            with closing(self.labels.planes()) as masks:
                for hu, mask in zip(images, masks, strict=True):
                    yield _finite(self.image.path, hu), _checked(self.labels.path, mask)


@dataclasses.dataclass(frozen=True)
class Volume:
    """A case read whole: `hu` [slices, rows, columns], `labels` the same shape in {0, 1, 2} (uint8), and its scan."""

    hu: np.ndarray
    labels: np.ndarray
    scan: Scan


def open_scan(case: Case, window: tuple[float, float] = (-160.0, 240.0)) -> Scan:
    """Open image and labels of a case. They are aligned by array index; geometry is the image's.

    `window` is what the greys of pictures (`case.kind` 'png') stand for, which have no HU.

    Raises:
        UserError: unreadable file, not three-dimensional, shapes that differ, bad geometry.
    """
    image, labels = _rasters(case, window)
    if labels and image.shape != labels.shape:
        raise UserError(
            f'{labels.path}: shape {_times(labels.shape)}, but {image.path.name} has {_times(image.shape)}; '
            'expected the same number of voxels, export the segmentation on the grid of its volume'
        )
    if _is_singular(image.affine):
        raise UserError(f'{image.path}: its affine is singular; expected one that maps voxels to mm, repair the header')
    order = np.argsort(_to_canonical(image.affine)[:, 0])[::-1].astype(int)  # file axes of slice, row, column
    z, y, x = np.linalg.norm(image.affine[:3, :3], axis=0)[order].tolist()
    if not all(1e-3 < mm < 1e3 for mm in (x, y, z)):
        raise UserError(f'{image.path}: voxel spacing {x:g}x{y:g}x{z:g} mm; expected a CT, repair the header')
    slices, rows, columns = (image.shape[axis] for axis in order)
    orientation = ''.join(nib.orientations.aff2axcodes(image.affine))
    return Scan(case, image, labels, (slices, rows, columns), (z, y, x), orientation)


def read_case(case: Case, window: tuple[float, float] = (-160.0, 240.0)) -> Volume:
    """Read a case whole; raises UserError as `open_scan` and `Scan.planes` do."""
    scan = open_scan(case, window)
    planes = sorted(scan.planes(), key=lambda plane: plane.index)
    return Volume(np.stack([plane.hu for plane in planes]), np.stack([plane.labels for plane in planes]), scan)


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


def _rasters(case: Case, window: tuple[float, float]) -> tuple[Raster, Raster | None]:
    """Image and labels by the case's kind."""
    if case.kind == 'dicom':
        series = read_series(case.images)
        return series, read_segmentation(case.labels, series) if case.labels else None
    if case.kind == 'png':
        return read_images(case.images, window), read_labels(case.labels)
    return _read_nifti(case.images[0]), _read_nifti(case.labels[0]) if case.labels else None


def _read_nifti(path: Path) -> Raster:
    try:
        image = nib.load(path)
        shape, dtype = image.shape, image.get_data_dtype()
    except PermissionError as error:
        raise UserError(f'{path}: no permission to read it; expected a readable file, see chmod') from error
    except UNREADABLE as error:
        raise UserError(f'{path}: not a readable NIfTI file ({_brief(error)}); download it again') from error
    if not isinstance(image, nib.Nifti1Image) or len(shape) != 3 or min(shape) < 1:
        raise UserError(f'{path}: an image of shape {_times(shape)}; expected a NIfTI volume with three axes')
    if dtype.kind not in 'iuf':
        raise UserError(f'{path}: voxels of type {dtype}; expected one whole or real number each')
    file, promised = path.stat().st_size, int(np.prod(shape, dtype=object)) * dtype.itemsize
    if max(shape) > LONGEST or promised > file * (DEFLATE if path.name.endswith('.gz') else 1):
        raise UserError(
            f'{path}: its voxels cannot be read ({_times(shape)} by its header, in a file of {file:,} bytes); '
            'download it again'
        )

    def planes() -> Generator[np.ndarray, None, None]:
        # One stream for all planes: nibabel's own way would decompress from the start for each.
        with ImageOpener(str(path)) as file:
            proxy = type(image).from_file_map({'image': FileHolder(fileobj=file)}).dataobj
            as_stored = (proxy.slope, proxy.inter) == (1, 0)  # int16 stays int16, the rest becomes float32
            for k in range(shape[2]):
                try:
                    plane = np.asarray(proxy[..., k])
                except UNREADABLE as error:
                    raise UserError(
                        f'{path}: its voxels cannot be read ({_brief(error)}); download it again'
                    ) from error
                yield plane.astype(plane.dtype.newbyteorder('=') if as_stored else np.float32, copy=False)

    return Raster(path, shape, image.affine, planes, _spacing_note(image))


def _filled(shape: tuple[int, int, int], pairs: Iterator[tuple[np.ndarray, np.ndarray]]) -> list[np.ndarray]:
    arrays: list[np.ndarray] = []
    for k, pair in enumerate(pairs):
        arrays = arrays or [np.empty(shape, plane.dtype) for plane in pair]
        for array, plane in zip(arrays, pair, strict=True):
            array[..., k] = plane
    return arrays


def _spacing_note(image: nib.Nifti1Image) -> tuple[str, ...]:
    header, affine = np.asarray(image.header.get_zooms()[:3], float), np.linalg.norm(image.affine[:3, :3], axis=0)
    if np.allclose(header, affine, rtol=0.01):
        return ()
    both = ['x'.join(f'{mm:.3g}' for mm in spacing) for spacing in (header, affine)]
    return (f'its header gives {both[0]} mm beside an affine of {both[1]} mm; the affine is used',)


def _finite(path: Path, hu: np.ndarray) -> np.ndarray:
    if hu.dtype.kind == 'f' and not np.isfinite(hu).all():
        raise UserError(f'{path}: NaN or infinite voxels; expected finite HU, replace them (air is -1000)')
    return hu


def _checked(path: Path, array: np.ndarray) -> np.ndarray:
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


def _to_canonical(affine: np.ndarray) -> np.ndarray:
    found = nib.orientations.io_orientation(affine)
    return nib.orientations.ornt_transform(found, nib.orientations.axcodes2ornt(CANONICAL))


def _canonical(array: np.ndarray, transform: np.ndarray) -> np.ndarray:
    return nib.orientations.apply_orientation(array, transform).transpose(2, 1, 0)


def _times(shape: tuple[int, ...]) -> str:
    return 'x'.join(map(str, shape))


def _brief(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]
