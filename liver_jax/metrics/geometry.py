"""Boxes around masks, and diameters within a plane. Lengths are in mm with the pixels' own sizes.

Diameters are measured between the midpoints of pixel edges, so that a bar of ten pixels is ten pixels long.
"""

import numpy as np
from scipy.spatial import ConvexHull

Box = tuple[slice, ...]
# From the centre of a pixel to the midpoints of its edges.
_EDGES = np.array([(-0.5, 0.0), (0.5, 0.0), (0.0, -0.5), (0.0, 0.5)])


def bounding_box(*masks: np.ndarray) -> Box:
    """The smallest box around all masks of one shape, at least one voxel long: what follows then takes less memory."""
    sides = []
    for axis in range(masks[0].ndim):
        others = tuple(other for other in range(masks[0].ndim) if other != axis)
        filled = np.flatnonzero(np.any([mask.any(axis=others) for mask in masks], axis=0))
        sides.append(slice(int(filled[0]), int(filled[-1]) + 1) if len(filled) else slice(0, 1))
    return tuple(sides)


def axial_diameters(piece: np.ndarray, spacing: tuple[float, float]) -> tuple[int, float, float]:
    """The plane of `piece` [slices, rows, columns] with the longest diameter (RECIST), this, and the width across it.

    `spacing` is in mm between rows and columns. The width is the distance of the two lines along the diameter that
    touch the piece.
    """
    best = (0, 0.0, 0.0)
    for index, plane in enumerate(piece):
        if plane.any():
            longest, across = _diameters(plane, spacing)
            if longest > best[1]:
                best = index, longest, across
    return best


def _diameters(plane: np.ndarray, spacing: tuple[float, float]) -> tuple[float, float]:
    """Longest diameter and width across it in mm of a plane [rows, columns] that is not empty."""
    rows = np.flatnonzero(plane.any(1))
    inside = plane[rows]
    ends = inside.argmax(1), plane.shape[1] - 1 - inside[:, ::-1].argmax(1)  # no others are on the hull
    centres = np.concatenate([np.column_stack([rows, columns]) for columns in ends])
    points = (centres[:, None] + _EDGES).reshape(-1, 2) * spacing
    hull = points[ConvexHull(points).vertices]
    ways = hull[:, None] - hull
    lengths = np.linalg.norm(ways, axis=-1)
    way = ways.reshape(-1, 2)[lengths.argmax()]
    return float(lengths.max()), float(np.ptp(hull @ (way[::-1] * (1, -1)) / lengths.max()))
