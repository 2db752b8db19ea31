"""Whether the planes of a DICOM series are a volume, and where it lies.

Planes are sorted by where they lie along their normal, never by number. What is no volume is refused by name: slices
of two sizes, a slice missing, uneven spacing, a tilted gantry.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from liver_jax.data.formats.dicom_header import Frame, Header
from liver_jax.data.formats.raster import Raster
from liver_jax.errors import UserError

LARGEST_TILT = 1.0  # degrees
FARTHEST = 1e5  # mm; a header may claim anything
TO_RAS = np.array([[-1.0], [-1.0], [1.0]])


def check_frames(header: Header, first: Header) -> None:
    """Refuse a file that does not say where its frames lie, or lies on another grid than the file `first`."""
    if not header.frames:
        raise UserError(
            f'{header.path}: positions of its frames are missing, or of another number than the frames; '
            'expected one for each, export the file again'
        )
    for frame in header.frames:
        _check_frame(header, frame, first)


def heights(frames: Sequence[Frame]) -> np.ndarray:
    """How far along the normal of the first one each frame lies, in mm."""
    return np.array([frame.position for frame in frames]) @ _normal(frames[0])


def check_stack(where: Path, frames: Sequence[Frame]) -> None:
    """Refuse frames, in order of height, that are not one evenly spaced, upright pile."""
    if len(frames) < 2:
        raise UserError(f'{where}: one slice; expected a series of several, take it out')
    positions = np.array([frame.position for frame in frames])
    gaps = np.diff(heights(frames))
    usual = float(np.median(gaps))
    wide = np.flatnonzero(gaps > 1.5 * usual)
    if 0 < wide.size <= len(gaps) / 4:
        k = int(wide[0])
        raise UserError(
            f'{where}: a slice is missing: {gaps[k]:.2f} mm from {frames[k].path.name} to {frames[k + 1].path.name}, '
            f'else {usual:.2f} mm (such gaps: {wide.size}); expected all slices, export the series again'
        )
    way = positions[-1] - positions[0]
    tilt = float(np.degrees(np.arccos(min(1.0, _normal(frames[0]) @ way / np.linalg.norm(way)))))
    if tilt > LARGEST_TILT:
        raise UserError(
            f'{where}: the gantry was tilted by {tilt:.1f} degrees; expected slices straight above each other, '
            'resample the series first, as dcm2niix does'
        )
    straight = positions[0] + np.linspace(0, 1, len(frames))[:, None] * way
    off = np.linalg.norm(positions - straight, axis=1)
    if off.max() > max(0.05 * usual, 0.1):  # some scanners round positions to 0.1 mm
        raise UserError(
            f'{where}: slices are unevenly spaced, {gaps.min():.2f} to {gaps.max():.2f} mm apart, most out of place is '
            f'{frames[int(off.argmax())].path.name}; expected one spacing, export the parts as series of their own'
        )


def affine_of(frames: Sequence[Frame]) -> np.ndarray:
    """From indices (column, row, plane) to mm in RAS+."""
    affine = np.eye(4)
    affine[:3, [0, 1, 3]] = _in_plane(frames[0])
    affine[:3, 2] = (_in_plane(frames[-1]) - _in_plane(frames[0]))[:, 2] / (len(frames) - 1)
    return affine


def plane_in(series: Raster, frame: Frame) -> int | None:
    """The plane of `series` that a frame covers pixel by pixel."""
    inverse = np.linalg.inv(series.affine)
    in_plane = inverse[:3, :3] @ _in_plane(frame)
    in_plane[:, 2] += inverse[:3, 3]
    k = round(in_plane[2, 2])
    size = series.shape[:2]
    # A tenth of a voxel at the far corner: files round what they write.
    fits = all(abs(in_plane[:, n] - np.eye(3)[n]).max() * size[n] < 0.1 for n in (0, 1))
    return k if fits and 0 <= k < series.shape[2] and abs(in_plane[:, 2] - (0, 0, k)).max() < 0.1 else None


def _check_frame(header: Header, frame: Frame, first: Header) -> None:
    for name, numbers in (
        ('ImagePositionPatient', frame.position),
        ('ImageOrientationPatient', frame.orientation),
        ('PixelSpacing', frame.spacing),
    ):
        if numbers is None or max(map(abs, numbers)) > FARTHEST:
            raise UserError(f'{frame.path}: {name} {numbers}; expected it in every slice, export the series again')
    row, column = np.reshape(frame.orientation or (), (2, 3))
    if (
        not np.allclose([row @ row, column @ column, row @ column], [1, 1, 0], atol=1e-2)
        or min(frame.spacing or ()) <= 0
    ):
        raise UserError(
            f'{frame.path}: ImageOrientationPatient {frame.orientation}, PixelSpacing {frame.spacing}; '
            'expected two unit vectors at right angles and positive spacing, repair the header'
        )
    model = first.frames[0]
    for name, own, other, tolerance in (
        ('size', (header.rows, header.columns), (first.rows, first.columns), 0.0),
        ('PixelSpacing', frame.spacing, model.spacing, 1e-3),
        ('ImageOrientationPatient', frame.orientation, model.orientation, 1e-3),
    ):
        if np.abs(np.subtract(own or (), other or ())).max() > tolerance:
            raise UserError(
                f'{frame.path}: {name} {own}, but {first.path.name} has {other}; '
                'expected one grid in a series, export the parts as series of their own'
            )


def _in_plane(frame: Frame) -> np.ndarray:
    """In RAS+: the way to the next column, to the next row, and the first pixel."""
    row, column = np.reshape(frame.orientation or (), (2, 3))
    between_rows, between_columns = frame.spacing or ()
    return TO_RAS * np.column_stack([row * between_columns, column * between_rows, np.array(frame.position)])


def _normal(frame: Frame) -> np.ndarray:
    row, column = np.reshape(frame.orientation or (), (2, 3))
    return np.cross(row, column)
