"""Lesions: the connected pieces of a mask (neighbours are all 26 around a voxel), and how predicted ones meet them.

Detection is counted in pieces. A reference lesion is found, and a predicted one is right, if it meets a partner with
IoU above a threshold:
- `iou0`: any voxel in common; one may have several partners;
- `iou50`: IoU > 0.5, where a piece has one partner at most (Kirillov et al., CVPR 2019);
- `lits`: IoU > 0.5 after the challenge's joining of pieces: reference lesions whose largest overlap is with the same
  predicted one become one, so do predicted ones whose largest overlap is with the same joined reference.
"""

import dataclasses
from typing import NamedTuple

import cc3d
import numpy as np

from liver_jax.metrics.geometry import axial_diameters
from liver_jax.metrics.volumetry import NAN

# Bins of the longest axial diameter in mm; both ends of the middle one are its own.
SIZES = ('under_10mm', '10_to_20mm', 'over_20mm')
RULES = ('iou0', 'iou50', 'lits')


@dataclasses.dataclass(frozen=True)
class Lesions:
    """The pieces of a mask: `numbers` [a, b, c] (0 outside, piece i has i + 1), `voxels` [n], a `boxes` entry each."""

    numbers: np.ndarray
    voxels: np.ndarray
    boxes: list[tuple[slice, slice, slice]]


class Pairs(NamedTuple):
    """Pieces that have voxels in common, an entry per pair: indices into both lists, common voxels, IoU."""

    reference: np.ndarray
    prediction: np.ndarray
    voxels: np.ndarray
    iou: np.ndarray


class Groups(NamedTuple):
    """Pieces joined as in LiTS: group of every reference and predicted piece (-1: none), IoU of every group."""

    reference: np.ndarray
    prediction: np.ndarray
    iou: np.ndarray


def find_lesions(mask: np.ndarray) -> Lesions:
    """The pieces of a boolean mask [a, b, c]."""
    numbers = cc3d.connected_components(np.ascontiguousarray(mask), connectivity=26)
    found = cc3d.statistics(numbers)
    return Lesions(numbers, found['voxel_counts'][1:].astype(np.int64), list(found['bounding_boxes'][1:]))


def longest_axial_diameters(lesions: Lesions, spacing: tuple[float, float, float]) -> tuple[np.ndarray, np.ndarray]:
    """The longest diameter (mm) [n] within any axial slice, and that slice [n]; axes are (slice, row, column)."""
    found = [
        axial_diameters(lesions.numbers[box] == number, spacing[1:]) for number, box in enumerate(lesions.boxes, 1)
    ]
    slices = [box[0].start + index for box, (index, _, _) in zip(lesions.boxes, found, strict=True)]
    return np.array([longest for _, longest, _ in found]), np.array(slices, int)


def find_pairs(reference: Lesions, prediction: Lesions) -> Pairs:
    """All pairs of pieces with a voxel in common; both of one grid."""
    both = (reference.numbers > 0) & (prediction.numbers > 0)
    keys = reference.numbers[both].astype(np.int64) << 32 | prediction.numbers[both]
    keys, voxels = np.unique(keys, return_counts=True)
    first, second = (keys >> 32) - 1, (keys & 0xFFFFFFFF) - 1
    union = reference.voxels[first] + prediction.voxels[second] - voxels
    return Pairs(first, second, voxels, voxels / union)


def join_as_lits(reference: Lesions, prediction: Lesions, pairs: Pairs) -> Groups:
    """The challenge's joining, without its dependence on the order of pieces; of equal overlaps the smaller piece wins.

    (Algorithm: PatrickChrist/lits-challenge-scoring, `detect_lesions`.)
    """
    group_of = np.full(len(reference.voxels), -1)
    order = np.lexsort((pairs.prediction, -prediction.voxels[pairs.prediction], pairs.voxels))
    group_of[pairs.reference[order]] = pairs.prediction[order]  # the last one assigned stays: the largest overlap
    names, group_of[group_of >= 0] = np.unique(group_of[group_of >= 0], return_inverse=True)
    size = np.bincount(group_of[group_of >= 0], reference.voxels[group_of >= 0], len(names))

    keys, inverse = np.unique(pairs.prediction << 32 | group_of[pairs.reference], return_inverse=True)
    common = np.bincount(inverse, pairs.voxels, len(keys))
    piece, group = keys >> 32, keys & 0xFFFFFFFF
    joined = np.full(len(prediction.voxels), -1)
    order = np.lexsort((group, -size[group], common))
    joined[piece[order]] = group[order]

    inside = joined[piece] == group
    intersection = np.bincount(group[inside], common[inside], len(names))
    size += np.bincount(joined[joined >= 0], prediction.voxels[joined >= 0], len(names))
    return Groups(group_of, joined, intersection / (size - intersection))


def found_lesions(
    reference: Lesions, prediction: Lesions, pairs: Pairs, groups: Groups
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """By rule: which reference lesions are found [n] and which predicted ones are right [m], as booleans."""
    found = {}
    for rule, threshold in (('iou0', 0.0), ('iou50', 0.5)):
        found[rule] = np.zeros(len(reference.voxels), bool), np.zeros(len(prediction.voxels), bool)
        enough = pairs.iou > threshold
        found[rule][0][pairs.reference[enough]] = True
        found[rule][1][pairs.prediction[enough]] = True
    enough = np.append(groups.iou > 0.5, False)  # the last entry is that of group -1
    return found | {'lits': (enough[groups.reference], enough[groups.prediction])}


def lesion_dices(reference: Lesions, prediction: Lesions, pairs: Pairs) -> np.ndarray:
    """Dice [n] of each reference lesion with all predicted ones that it meets, taken together; 0 if there is none."""
    common = np.bincount(pairs.reference, pairs.voxels, len(reference.voxels))
    met = np.bincount(pairs.reference, prediction.voxels[pairs.prediction], len(reference.voxels))
    return 2 * common / (reference.voxels + met)


def count_detections(
    found: np.ndarray, right: np.ndarray, sizes: tuple[np.ndarray, np.ndarray]
) -> dict[str, list[int]]:
    """[reference, found, predicted, right] for 'all' lesions and each of `SIZES`; `sizes` are diameters (mm) of both.

    A reference lesion counts in the bin of its own size, and so does a predicted one.
    """
    bins = [np.where(mm < 10, 0, np.where(mm <= 20, 1, 2)) for mm in sizes]
    counts = {'all': [len(found), int(found.sum()), len(right), int(right.sum())]}
    for number, name in enumerate(SIZES):
        mine, theirs = found[bins[0] == number], right[bins[1] == number]
        counts[name] = [len(mine), int(mine.sum()), len(theirs), int(theirs.sum())]
    return counts


def detection_scores(counts: list[int]) -> dict[str, float]:
    """'precision', 'recall' and 'f1' of [reference, found, predicted, right]; NaN where nothing is counted.

    F1 = (found + right) / (reference + predicted), which is 2TP / (2TP + FP + FN) where partners come in pairs.
    """
    reference, found, predicted, right = counts
    whole = reference + predicted
    return {
        'precision': right / predicted if predicted else NAN,
        'recall': found / reference if reference else NAN,
        'f1': (found + right) / whole if whole else NAN,
    }


def panoptic_scores(iou_sum: float, counts: list[int]) -> dict[str, float]:
    """'pq', and its factors 'sq' and 'rq', of the sum of IoU over pairs above 0.5 and their counts as above.

    PQ = sum of IoU / (TP + FP/2 + FN/2) (Kirillov et al., CVPR 2019). Nothing in either mask: NaN.
    """
    reference, found, predicted, _ = counts
    whole = (reference + predicted) / 2
    return {
        'pq': iou_sum / whole if whole else NAN,
        'sq': iou_sum / found if found else NAN,
        'rq': found / whole if whole else NAN,
    }
