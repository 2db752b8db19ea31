"""Cases -> planes in one canonical frame.

Axes are (slice, row, column) towards the patient's head, back and left, so that a slice shown with row 0 on top is the
radiological view. Planes come one at a time: a volume is held whole only where its file is not stored slice by slice.
"""

import dataclasses
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from liver_jax.data.formats.dicom import read_segmentation, read_series
from liver_jax.data.formats.nifti import axes_of, canonical, canonical_affine, read_nifti, times, to_canonical
from liver_jax.data.formats.pictures import read_images, read_labels
from liver_jax.data.formats.raster import Raster
from liver_jax.data.layouts import Case
from liver_jax.errors import UserError

ROUNDING = 1e-3  # how far labels may be from whole numbers, and probabilities from [0, 1]


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

    def check_held(self, budget_gb: float) -> None:
        """Raise UserError where reading takes more memory than that."""
        if self.held_gb > budget_gb:
            raise UserError(
                f'{self.case.images[0]}: not stored slice by slice, so {self.held_gb:.2f} GB of it are held at once, '
                f'and each worker may take {budget_gb:.2f}; raise data.memory_gb or lower data.workers'
            )

    @property
    def is_placed(self) -> bool:
        """Whether spacing and orientation are known: pictures have none, an identity affine stands for none."""
        return self.case.kind != 'png' and not np.allclose(self.image.affine[:3, :3], np.eye(3))

    def describe(self) -> dict[str, Any]:
        """Geometry as plain data: what takes slices back to the grid of their file.

        `shape` and `affine` are along the axes of the file; `size` and `spacing_mm` along slice, row, column.
        """
        return {
            'shape': list(self.image.shape),
            'size': list(self.size),
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
            transform = to_canonical(self.image.affine)
            if self.by_plane:
                for k, pair in enumerate(pairs):
                    index = k if self.orientation[2] == 'S' else self.size[0] - 1 - k
                    yield Plane(index, *(canonical(array[:, :, None], transform)[0] for array in pair))
            else:
                hu, labels = (canonical(array, transform) for array in _filled(self.image.shape, pairs))
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


@dataclasses.dataclass(frozen=True)
class VoxelMap:
    """`values` [slices, rows, columns], mm along its axes, indices -> mm in RAS+ (4x4)."""

    values: np.ndarray
    spacing: tuple[float, float, float]
    affine: np.ndarray


def open_scan(case: Case, window: tuple[float, float] = (-160.0, 240.0)) -> Scan:
    """Open image and labels of a case. They are aligned by array index; geometry is the image's.

    `window` is what the greys of pictures (`case.kind` 'png') stand for, which have no HU.

    Raises:
        UserError: unreadable file, not three-dimensional, shapes that differ, bad geometry.
    """
    image, labels = _rasters(case, window)
    if labels and image.shape != labels.shape:
        raise UserError(
            f'{labels.path}: shape {times(labels.shape)}, but {image.path.name} has {times(image.shape)}; '
            'expected the same number of voxels, export the segmentation on the grid of its volume'
        )
    _check_affine(image)
    order = np.argsort(to_canonical(image.affine)[:, 0])[::-1].astype(int)  # file axes of slice, row, column
    z, y, x = np.linalg.norm(image.affine[:3, :3], axis=0)[order].tolist()
    slices, rows, columns = (image.shape[axis] for axis in order)
    orientation = axes_of(image.affine)
    return Scan(case, image, labels, (slices, rows, columns), (z, y, x), orientation)


def read_case(case: Case, window: tuple[float, float] = (-160.0, 240.0)) -> Volume:
    """Read a case whole; raises UserError as `open_scan` and `Scan.planes` do."""
    scan = open_scan(case, window)
    planes = sorted(scan.planes(), key=lambda plane: plane.index)
    return Volume(np.stack([plane.hu for plane in planes]), np.stack([plane.labels for plane in planes]), scan)


def read_label_map(path: Path, like: Path | None = None, any_value: bool = False) -> VoxelMap:
    """Read a NIfTI segmentation that stands alone, into the canonical frame: labels in {0, 1, 2} (uint8).

    With `like`, a NIfTI scan of the same shape, its affine is used instead of the labels' own. With `any_value` a
    single value above 0, whatever it is (such as 255), is read as 1.

    Raises:
        UserError: unreadable file, not three-dimensional, bad geometry, labels outside {0, 1, 2}.
    """
    raster = read_nifti(path)
    try:
        return _read_map(raster, like, np.uint8, lambda plane: _checked(path, plane))
    except UserError:
        if not any_value or len(values := _values(raster)) != 1 or not 0 < min(values) < np.inf:
            raise
        return _read_map(raster, like, np.uint8, lambda plane: plane > 0)


def read_probabilities(path: Path) -> VoxelMap:
    """Read a NIfTI volume of probabilities into the canonical frame: float32 in [0, 1].

    Raises:
        UserError: unreadable file, not three-dimensional, bad geometry, values outside of [0, 1], NaN.
    """

    def checked(plane: np.ndarray) -> np.ndarray:
        if not ((plane >= -ROUNDING) & (plane <= 1 + ROUNDING)).all():
            found = f'{plane.min():.6g} to {plane.max():.6g}'
            raise UserError(f'{path}: values of {found}; expected probabilities from 0 to 1')
        return np.clip(plane, 0, 1)

    return _read_map(read_nifti(path), None, np.float32, checked)


def _read_map(raster: Raster, like: Path | None, dtype: type, checked: Callable[[np.ndarray], np.ndarray]) -> VoxelMap:
    """All planes, each passed through `checked`, on the raster's own grid or that of a scan."""
    affine = raster.affine
    if like:
        scan = read_nifti(like)
        affine = scan.affine
        if scan.shape != raster.shape:
            raise UserError(
                f'{raster.path}: shape {times(raster.shape)}, but {like.name} has {times(scan.shape)}; '
                'expected the same number of voxels, export the segmentation on the grid of its volume'
            )
    _check_affine(dataclasses.replace(raster, affine=affine))
    values: np.ndarray = np.empty(raster.shape, dtype, order='F')
    with closing(raster.planes()) as planes:
        for k, plane in enumerate(planes):
            values[..., k] = checked(plane)
    transform, placed = to_canonical(affine), canonical_affine(affine, raster.shape)
    z, y, x = np.linalg.norm(placed[:3, :3], axis=0).tolist()
    return VoxelMap(np.ascontiguousarray(canonical(values, transform)), (z, y, x), placed)


def _values(raster: Raster) -> set[float]:
    """What voxels have beside 0."""
    found: set[float] = set()
    with closing(raster.planes()) as planes:
        for plane in planes:
            found |= set(np.unique(plane[plane != 0]).tolist())
            if len(found) > 1:
                break
    return found


def _rasters(case: Case, window: tuple[float, float]) -> tuple[Raster, Raster | None]:
    """Image and labels by the case's kind."""
    if case.kind == 'dicom':
        series = read_series(case.images)
        return series, read_segmentation(case.labels, series) if case.labels else None
    if case.kind == 'png':
        return read_images(case.images, window), read_labels(case.labels)
    return read_nifti(case.images[0]), read_nifti(case.labels[0]) if case.labels else None


def _filled(shape: tuple[int, int, int], pairs: Iterator[tuple[np.ndarray, np.ndarray]]) -> list[np.ndarray]:
    arrays: list[np.ndarray] = []
    for k, pair in enumerate(pairs):
        arrays = arrays or [np.empty(shape, plane.dtype) for plane in pair]
        for array, plane in zip(arrays, pair, strict=True):
            array[..., k] = plane
    return arrays


def _finite(path: Path, hu: np.ndarray) -> np.ndarray:
    if hu.dtype.kind == 'f' and not np.isfinite(hu).all():
        raise UserError(f'{path}: NaN or infinite voxels; expected finite HU, replace them (air is -1000)')
    return hu


def _checked(path: Path, array: np.ndarray) -> np.ndarray:
    labels = np.zeros(array.shape, np.uint8)
    for value in (1, 2):
        labels[array == value] = value
    if not np.array_equal(labels, array):
        if array.dtype.kind == 'f':  # resampling and slopes leave 1.0000001
            labels = np.clip(np.nan_to_num(np.rint(array)), 0, 2).astype(np.uint8)
        strange = np.unique(array[~(np.abs(labels - array) <= ROUNDING)])
        if len(strange):
            found = ', '.join(f'{value:.9g}' for value in strange[:5]) + (', …' if len(strange) > 5 else '')
            raise UserError(f'{path}: labels {found}; expected only 0 (background), 1 (liver) and 2 (tumour)')
    return labels


def _check_affine(raster: Raster) -> None:
    if _is_singular(raster.affine):
        raise UserError(
            f'{raster.path}: its affine is singular; expected one that maps voxels to mm, repair the header'
        )
    spacing = np.linalg.norm(raster.affine[:3, :3], axis=0)
    if not ((spacing > 1e-3) & (spacing < 1e3)).all():
        found = 'x'.join(f'{mm:g}' for mm in spacing)
        raise UserError(f'{raster.path}: voxel spacing {found} mm; expected a CT, repair the header')


def _is_singular(affine: np.ndarray) -> bool:
    """Asked before io_orientation, which fails on NaN and takes axes that run along one another."""
    if not np.isfinite(affine).all():
        return True
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    return not lengths.all() or bool(abs(np.linalg.det(affine[:3, :3] / lengths)) < 1e-3)
