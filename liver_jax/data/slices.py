"""One axial slice: whether it is kept, its window, its size, and the way back to its own grid."""

import numpy as np
from PIL import Image


def is_kept(labels: np.ndarray, which: str) -> bool:
    """Whether a plane with these labels is kept: 'tumor' (with tumour), 'liver' (with liver or tumour) or 'all'."""
    least = {'tumor': 2, 'liver': 1, 'all': 0}[which]
    return bool(labels.max(initial=0) >= least)


def prepare_slice(
    hu: np.ndarray, labels: np.ndarray, window: tuple[float, float], side: int, masks: str
) -> dict[str, np.ndarray]:
    """HU and labels [rows, columns] -> uint8 [side, side]: 'images', and masks: 'liver' (with tumour), 'tumor'."""
    return {
        'images': prepare_image(hu, window, side),
        'liver': _as_bytes(_resize(labels >= 1, side, masks == 'nearest')),
        'tumor': _as_bytes(_resize(labels == 2, side, masks == 'nearest')),
    }


def prepare_image(hu: np.ndarray, window: tuple[float, float], side: int) -> np.ndarray:
    """The 'images' of `prepare_slice` alone: HU [rows, columns] -> uint8 [side, side]."""
    return _as_bytes(_resize(_windowed(hu, *window), side, hard=False))


def restore_slice(plane: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """What a network says of a prepared slice, float32 [side, side] in [0, 1] -> [rows, columns] of the slice itself.

    The way back of `prepare_slice`: bilinear to the padded square, pixel areas on pixel areas (half-pixel centres, the
    border repeated), then the padding is cut off. Slices that were enlarged are averaged over areas instead.
    """
    longest = max(rows, columns)
    top, left = (longest - rows) // 2, (longest - columns) // 2
    return _resize(plane, longest, hard=False)[top : top + rows, left : left + columns]


def _as_bytes(plane: np.ndarray) -> np.ndarray:
    """[0, 1] -> uint8 0..255."""
    return np.rint(np.clip(plane, 0, 1) * 255).astype(np.uint8)


def _windowed(hu: np.ndarray, low: float, high: float) -> np.ndarray:
    """HU [rows, columns] -> float32 in [0, 1]."""
    return (np.clip(hu.astype(np.float32), low, high) - low) / np.float32(high - low)


def _resize(plane: np.ndarray, side: int, hard: bool) -> np.ndarray:
    """[rows, columns] in [0, 1] -> [side, side] float32: padded to a square, then area-averaged (or nearest).

    Enlarging interpolates linearly.
    """
    rows, columns = plane.shape
    longest = max(rows, columns)
    top, left = (longest - rows) // 2, (longest - columns) // 2
    square = np.zeros((longest, longest), np.float32)
    square[top : top + rows, left : left + columns] = plane
    if longest > side and longest % side and not hard:
        return _area_average(square, side)
    method = Image.Resampling.BOX if longest >= side else Image.Resampling.BILINEAR
    resized = Image.fromarray(square).resize((side, side), Image.Resampling.NEAREST if hard else method)
    return np.asarray(resized, np.float32)


def _area_average(plane: np.ndarray, side: int) -> np.ndarray:
    """Means over `side` x `side` equal areas, pixels on a border counted by their share.

    Pillow's box filter does this where the sides divide; elsewhere it gives a shared pixel whole to both or to one.
    """
    for _ in range(2):  # rows, then, transposed, columns
        edges = np.arange(side + 1) * len(plane) / side
        last = np.minimum(edges.astype(int), len(plane) - 1)
        sums = np.vstack([np.zeros_like(plane[:1], np.float64), plane.cumsum(0, np.float64)])
        up_to_edge = sums[last] + (edges - last)[:, None] * plane[last]
        plane = (np.diff(up_to_edge, axis=0) * (side / len(plane))).T
    return plane.astype(np.float32)
