"""FROC: sensitivity against false positives per scan, from lesions with a confidence each."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from liver_jax.metrics.lesions import find_lesions, find_pairs
from liver_jax.metrics.volumetry import NAN

OPERATING_POINTS = (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8)  # false positives per scan (LUNA16)
FLOOR = 0.1  # probability below which nothing is a candidate


class Candidates(NamedTuple):
    """The candidates of one scan: `confidence` [n], whether each meets `no` lesion [n].

    `best` [m] is the highest confidence among those that meet each reference lesion, -inf where none does.
    """

    confidence: np.ndarray
    no: np.ndarray
    best: np.ndarray


class Froc(NamedTuple):
    """The curve, from the most confident candidate on: false positives per scan, sensitivity; and their score.

    `reached` is the sensitivity at each of `OPERATING_POINTS`, `score` their mean. Without a lesion in any scan all but
    the false positives are NaN.
    """

    false_positives: np.ndarray
    sensitivity: np.ndarray
    reached: np.ndarray
    score: float


def find_candidates(probability: np.ndarray, reference: np.ndarray, floor: float = FLOOR) -> Candidates:
    """Candidates are the connected pieces [a, b, c] of `probability` >= `floor`; their confidence is the highest in it.

    A candidate that has a voxel of a lesion of the boolean `reference` is no false positive; of several on one lesion
    the most confident finds it. Raises ValueError for NaN.
    """
    if np.isnan(probability).any():
        raise ValueError('NaN in the probabilities')
    candidates, lesions = find_lesions(probability >= floor), find_lesions(reference)
    pairs = find_pairs(lesions, candidates)
    confidence = np.array(
        [probability[box][candidates.numbers[box] == number].max() for number, box in enumerate(candidates.boxes, 1)],
        np.float64,
    )
    no = np.ones(len(confidence), bool)
    no[pairs.prediction] = False
    best = np.full(len(lesions.voxels), -np.inf)
    np.maximum.at(best, pairs.reference, confidence[pairs.prediction])
    return Candidates(confidence, no, best)


def froc(scans: Sequence[Candidates]) -> Froc:
    """The curve over all scans together; between its points the last one reached counts.

    (Bunch et al., 1978; score: Setio et al., Medical Image Analysis 42:1, 2017.)
    """
    confidence = np.concatenate([scan.confidence for scan in scans])
    wrong = np.sort(np.concatenate([scan.confidence[scan.no] for scan in scans]))
    best = np.sort(np.concatenate([scan.best for scan in scans]))
    thresholds = np.unique(confidence)[::-1]
    false_positives = (len(wrong) - np.searchsorted(wrong, thresholds)) / len(scans)
    if not len(best):
        return Froc(false_positives, np.full(len(thresholds), NAN), np.full(len(OPERATING_POINTS), NAN), NAN)
    sensitivity = (len(best) - np.searchsorted(best, thresholds)) / len(best)
    reached = np.append(0.0, sensitivity)[np.searchsorted(false_positives, OPERATING_POINTS, side='right')]
    return Froc(false_positives, sensitivity, reached, float(reached.mean()))


def describe_froc(curve: Froc, scans: int) -> dict[str, Any]:
    """As plain data: `score`, `sensitivity` at so many `false_positives` per scan each, number of `scans`, `floor`."""
    return {
        'score': curve.score,
        'false_positives': list(OPERATING_POINTS),
        'sensitivity': curve.reached.tolist(),
        'scans': scans,
        'floor': FLOOR,
    }
