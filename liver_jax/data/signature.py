"""Which scans are of one patient, seen from the anatomy alone.

A signature is the scan on a coarse grid (8 mm), its finest and its smooth parts taken away: bones, organs and fat stay,
brightness does not matter. Two signatures are compared by their highest correlation over all shifts (normalised
cross-correlation; Lewis, Fast Normalized Cross-Correlation, 1995). On six LiTS volumes and one other CT the two scans
of one patient reach .67, different patients at most .29; second visits simulated by breathing of 8 mm, a turn by 5°
and weaker contrast .39 and more. Synthetic phantoms are all alike to it.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import fft, ndimage

GRID_MM = 8.0
WINDOW = (-50, 200)  # HU; below it, fat and air are one: body outlines are much alike
FINE, SMOOTH = 0.7, 1.5  # standard deviations in voxels of the grid: what is finer or smoother is taken away
SAME, PERHAPS = 0.5, 0.4  # similarities from which two scans are, or may be, of one patient
LEAST_MM = (60.0, 150.0, 150.0)  # slices, rows, columns: of smaller pieces nothing can be said
SHIFT = 8  # voxels of the grid that a patient may lie elsewhere, in rows and columns
OVERLAP = 0.5  # of the shorter scan that must lie within the other


class SignatureBuilder:
    """Collects the planes of one scan, in any order."""

    def __init__(self, size: tuple[int, int, int], spacing: tuple[float, float, float]) -> None:
        """`size` (slices, rows, columns) and `spacing` in mm along them."""
        self._bins = [((np.arange(n) + 0.5) * mm / GRID_MM).astype(int) for n, mm in zip(size, spacing, strict=True)]
        self._large = all(n * mm >= least for n, mm, least in zip(size, spacing, LEAST_MM, strict=True))
        self._sums = np.zeros([each[-1] + 1 for each in self._bins], np.float32) if self._large else np.zeros((0, 0, 0))
        self._planes = np.zeros(len(self._sums), int)

    def add(self, index: int, hu: np.ndarray) -> None:
        """The plane [rows, columns] with that index."""
        if self._large:
            clipped = np.clip(hu, *WINDOW).astype(np.float32)
            for axis in (0, 1):
                starts, counts = np.unique(self._bins[axis + 1], return_index=True, return_counts=True)[1:]
                shape = (-1, 1) if axis == 0 else (1, -1)
                clipped = np.add.reduceat(clipped, starts, axis=axis) / counts.reshape(shape)
            filled = np.ix_(np.unique(self._bins[1]), np.unique(self._bins[2]))
            level = self._bins[0][index]
            self._sums[level][filled] += clipped
            self._planes[level] += 1

    def finish(self) -> np.ndarray | None:
        """The signature, float16 [slices, rows, columns] on the grid; None where the scan is too small for one."""
        filled = np.flatnonzero(self._planes)
        if len(filled) < 2:
            return None
        means = self._sums[filled] / self._planes[filled, None, None]
        levels = np.interp(np.arange(len(self._planes)), filled, np.arange(len(filled)))  # thick slices leave gaps
        low = np.minimum(levels.astype(int), len(filled) - 2)
        part = (levels - low)[:, None, None].astype(np.float32)
        grid = means[low] * (1 - part) + means[low + 1] * part
        return (ndimage.gaussian_filter(grid, FINE) - ndimage.gaussian_filter(grid, SMOOTH)).astype(np.float16)


def similarity(first: np.ndarray, second: np.ndarray) -> float:
    """Highest correlation of two signatures over shifts with enough overlap; -1 where there is none."""
    return float(_compare(*_ready([first, second])))


def similarities(signatures: Sequence[np.ndarray | None], contents: Sequence[str]) -> np.ndarray:
    """[n, n] of all pairs: 1 where `contents` (hashes of the voxels) are equal, NaN where a signature is missing."""
    count = len(signatures)
    alike = np.full((count, count), np.nan)
    known = [number for number, signature in enumerate(signatures) if signature is not None]
    ready = dict(zip(known, _ready([each for each in signatures if each is not None]), strict=True))
    for second in range(count):
        for first in range(second):
            if contents[first] == contents[second]:
                alike[first, second] = 1.0
            elif first in ready and second in ready:
                alike[first, second] = min(_compare(ready[first], ready[second]), 0.999)
    return np.fmax(alike, alike.T)


@dataclasses.dataclass(frozen=True)
class _Ready:
    """A signature made ready to be compared with many: its spectrum, and sums of squares up to each corner."""

    shape: tuple[int, ...]
    padded: tuple[int, ...]
    spectrum: np.ndarray
    squares: np.ndarray


def _ready(signatures: Sequence[np.ndarray]) -> list[_Ready]:
    """All with spectra of one size, in which shifted ones do not meet their own other end."""
    if not signatures:
        return []
    slices, rows, columns = (max(each.shape[axis] for each in signatures) for axis in range(3))
    padded = tuple(fft.next_fast_len(n, True) for n in (2 * slices, rows + SHIFT, columns + SHIFT))
    ready = []
    for each in signatures:
        array = np.asarray(each, np.float32)
        squares = np.pad(np.square(array, dtype=np.float64), [(1, 0)] * 3).cumsum(0).cumsum(1).cumsum(2)
        ready.append(_Ready(array.shape, padded, fft.rfftn(array, padded), squares))
    return ready


def _compare(a: _Ready, b: _Ready) -> float:
    lags = [
        np.arange(-(n - least), m - least + 1)
        for n, m in zip(b.shape, a.shape, strict=True)
        for least in [int(np.ceil(OVERLAP * min(n, m)))]
    ]
    lags[1:] = [each[abs(each) <= SHIFT] for each in lags[1:]]
    if not all(len(each) for each in lags):
        return -1.0
    products = fft.irfftn(a.spectrum * np.conj(b.spectrum), a.padded)[np.ix_(*lags)]
    energy = _energy(a, b.shape, lags) * _energy(b, a.shape, [-each for each in lags])
    return float((products / np.sqrt(np.maximum(energy, 1e-6))).max())


def _energy(one: _Ready, other: tuple[int, ...], lags: list[np.ndarray]) -> np.ndarray:
    """Sum of squares where another of shape `other`, moved by each of the lags, lies over it."""
    sums = one.squares
    for axis, (size, lag) in enumerate(zip(other, lags, strict=True)):
        low, high = np.clip(lag, 0, one.shape[axis]), np.clip(lag + size, 0, one.shape[axis])
        sums = sums.take(high, axis) - sums.take(low, axis)
    return sums
