"""Distances between the surfaces of two masks, in mm, on grids of any spacing.

Two kinds of surface, after their sources:
- border voxels, the mask minus its erosion with the 18-neighbour element (Heimann et al., IEEE TMI 28:1251, 2009;
  LiTS), for ASSD, RMSD and MSD: mean, root mean square and maximum over the borders of both masks pooled;
- surface elements between voxels, weighted by their area (Nikolov et al., arXiv 1809.04430; the numbers are those of
  google-deepmind/surface-distance), for the normalised surface Dice and the 95 % Hausdorff distance.

What lies outside of the array is background. Nearest neighbours are found by a k-d tree of the surface points, which
is exact and needs no distance map of the volume.
"""

import functools
import itertools

import numpy as np
from scipy.spatial import cKDTree

from liver_jax.metrics.geometry import bounding_box
from liver_jax.metrics.volumetry import NAN

TOLERANCES = (1.0, 2.0)  # mm, of the normalised surface Dice
ROUNDING = 1e-6  # mm; a distance of 5 x 0.2 mm counts as 1 mm wherever on the grid it lies

# Normals of the surface within a cube of 2x2x2 voxels, in eighths of a face: area and direction. The key has a bit for
# each voxel that belongs to the mask, 128 for the first one to 1 for the last. All other cubes are turned, mirrored or
# inverted ones of these. (Values: lookup_tables.py of google-deepmind/surface-distance, Apache-2.0.)
_CUBES = {
    0b00000001: ((1, 1, 1),),
    0b00000011: ((2, 2, 0), (2, 2, 0)),
    0b00000110: ((1, 1, 1), (1, 1, 1)),
    0b00000111: ((4, 0, 0), (2, 2, 2), (1, 1, 1)),
    0b00001111: ((4, 0, 0), (4, 0, 0)),
    0b00010110: ((1, 1, 1), (1, 1, 1), (1, 1, 1)),
    0b00010111: ((1, 1, 1), (2, 2, 2), (2, 2, 2), (1, 1, 1)),
    0b00011000: ((1, 1, 1), (1, 1, 1)),
    0b00011001: ((0, 2, 2), (0, 2, 2), (1, 1, 1)),
    0b00011011: ((1, 1, 1), (3, 3, 3), (0, 2, 2), (2, 0, 2)),
    0b00011110: ((4, 0, 0), (1, 1, 1), (2, 2, 2), (1, 1, 1)),
    0b00111100: ((2, 2, 0), (2, 2, 0), (2, 2, 0), (2, 2, 0)),
    0b01101001: ((1, 1, 1), (1, 1, 1), (1, 1, 1), (1, 1, 1)),
}
_BITS = np.array([128, 64, 32, 16, 8, 4, 2, 1], np.uint8).reshape(2, 2, 2)

Spacing = tuple[float, float, float]


def surface_scores(prediction: np.ndarray, reference: np.ndarray, spacing: Spacing) -> dict[str, float]:
    """'assd', 'rmsd', 'msd', 'hd95' (mm), 'nsd_1mm', 'nsd_2mm' of boolean masks [a, b, c]; `spacing` in mm, same axes.

    One mask empty: the distances are NaN, the surface Dice is 0. Both empty: all are NaN.
    """
    box = bounding_box(prediction, reference)
    prediction, reference = prediction[box], reference[box]
    return border_scores(prediction, reference, spacing) | element_scores(prediction, reference, spacing)


def border_scores(prediction: np.ndarray, reference: np.ndarray, spacing: Spacing) -> dict[str, float]:
    """'assd', 'rmsd' and 'msd' alone; see `surface_scores`."""
    points = [np.argwhere(border(mask)) * np.asarray(spacing) for mask in (prediction, reference)]
    if not all(map(len, points)):
        return dict.fromkeys(('assd', 'rmsd', 'msd'), NAN)
    distances = np.concatenate(_distances(*points))
    return {
        'assd': float(distances.mean()),
        'rmsd': float(np.sqrt(np.mean(distances**2))),
        'msd': float(distances.max()),
    }


def element_scores(prediction: np.ndarray, reference: np.ndarray, spacing: Spacing) -> dict[str, float]:
    """'hd95' and the 'nsd_…' alone; see `surface_scores`."""
    surfaces = [_elements(mask, spacing) for mask in (prediction, reference)]
    areas = [area for _, area in surfaces]
    names = [f'nsd_{tolerance:g}mm' for tolerance in TOLERANCES]
    if not all(map(len, areas)):
        return {'hd95': NAN} | dict.fromkeys(names, 0.0 if any(map(len, areas)) else NAN)
    distances = _distances(*(points for points, _ in surfaces))
    whole = sum(float(area.sum()) for area in areas)
    scores = {'hd95': max(_percentile(away, area, 0.95) for away, area in zip(distances, areas, strict=True))}
    for name, tolerance in zip(names, TOLERANCES, strict=True):
        within = sum(
            float(area[away <= tolerance + ROUNDING].sum()) for away, area in zip(distances, areas, strict=True)
        )
        scores[name] = within / whole
    return scores


def border(mask: np.ndarray) -> np.ndarray:
    """The voxels of a boolean mask [a, b, c] that its erosion with the 18-neighbour element takes away.

    That element is the union of the three 3x3 squares through its centre, and a square erodes line by line.
    """
    lines = [_eroded(mask, axis) for axis in range(3)]
    return mask & ~(_eroded(lines[0], 1) & _eroded(lines[1], 2) & _eroded(lines[2], 0))


def _eroded(mask: np.ndarray, axis: int) -> np.ndarray:
    """Erosion with three voxels in a line."""
    lines = np.moveaxis(mask, axis, 0)
    kept = np.zeros(mask.shape, bool)
    np.moveaxis(kept, axis, 0)[1:-1] = lines[:-2] & lines[1:-1] & lines[2:]
    return kept


def _elements(mask: np.ndarray, spacing: Spacing) -> tuple[np.ndarray, np.ndarray]:
    """Points [n, 3] (mm) between eight voxels that are not all alike, and the area (mm²) of the surface there."""
    corners = np.zeros([length + 1 for length in mask.shape], np.uint8)
    for offset in itertools.product((0, 1), repeat=3):
        # A voxel is at offset 1 of the cube whose corner it ends, at 0 of the one it begins.
        part = tuple(slice(1 - each, length + 1 - each) for each, length in zip(offset, mask.shape, strict=True))
        corners[part] |= mask * _BITS[offset]
    found = np.argwhere((corners > 0) & (corners < 255))
    return found * np.asarray(spacing), _areas(spacing)[corners[tuple(found.T)]]


@functools.cache
def _areas(spacing: Spacing) -> np.ndarray:
    """Area (mm²) of the surface within a cube, for each of its 256 codes."""
    a, b, c = spacing
    faces = np.array([b * c, a * c, a * b]) / 8
    areas = np.zeros(256)
    for code, normals in _CUBES.items():
        cube = (code & _BITS) > 0
        for order in itertools.permutations(range(3)):
            area = sum(float(np.linalg.norm(np.array(normal)[list(order)] * faces)) for normal in normals)
            for mirrored in itertools.product((1, -1), repeat=3):
                turned = cube.transpose(order)[tuple(slice(None, None, step) for step in mirrored)]
                same = int(_BITS[turned].sum())
                areas[[same, 255 - same]] = area
    return areas


def _distances(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """From each point [n, 3] of one surface to the nearest of the other, both ways."""
    # Points on a grid are spread evenly: the quick way to build a tree serves as well.
    trees = [cKDTree(points, balanced_tree=False, compact_nodes=False) for points in (first, second)]
    return trees[1].query(first, workers=-1)[0], trees[0].query(second, workers=-1)[0]


def _percentile(distances: np.ndarray, areas: np.ndarray, part: float) -> float:
    """The distance that `part` of the area does not exceed."""
    order = np.argsort(distances)
    grown = np.cumsum(areas[order])
    index = int(np.searchsorted(grown / grown[-1], part))
    return float(distances[order[min(index, len(order) - 1)]])
