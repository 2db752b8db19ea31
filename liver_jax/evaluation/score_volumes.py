"""One prediction beside its reference, at the resolution of the reference -> every volume-level score, as plain data.

Keys are flat: `tumor.dice`, `liver.assd`, `lesion.recall_iou50`, … A score without a value is NaN.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from liver_jax.metrics import lesions as pieces
from liver_jax.metrics.geometry import Box, bounding_box
from liver_jax.metrics.lesions import Groups, Lesions
from liver_jax.metrics.surfaces import Spacing, border_scores, surface_scores
from liver_jax.metrics.volumetry import (
    NAN,
    Voxels,
    burden_errors,
    count_voxels,
    mean,
    tumor_burden,
    volume_scores,
)

TARGETS = ('tumor', 'liver')
DETECTED = ('dice', 'voe', 'rvd', 'assd', 'msd', 'rmsd')  # LiTS's scores of detected lesions
RULES = {
    'labels': 'tumor is label 2; liver is label 1 or 2, tumour included',
    'empty': 'Prediction and reference both empty: Dice, VOE, surface Dice, distances are undefined (null) and left '
    'out of means; dice_lits counts them as 1. One of them empty: Dice and surface Dice 0, VOE 1, distances undefined. '
    'Reference empty: RVD and recall undefined, false_positive_ml given. Nothing predicted: precision undefined.',
    'mean': 'mean over the cases where the score is defined; count says how many',
    'global': 'voxels (Dice, VOE, RVD) or lesions (lesion.*, detected.*) of all cases pooled',
    'surfaces': 'assd, rmsd, msd: border voxels (mask minus its erosion with the 18-neighbour element) of both masks '
    'pooled; hd95, nsd: surface elements weighted by area, as google-deepmind/surface-distance. mm.',
    'lesions': 'connected pieces, neighbours are all 26 around a voxel; iou0: any voxel in common, iou50: IoU > 0.5, '
    'lits: IoU > 0.5 after the joining of pieces as in LiTS; sizes are longest axial diameters, each lesion in the bin '
    'of its own',
    'lesion.dice': 'of every reference lesion with all predicted ones that it meets; a missed one is 0',
    'detected': 'mean over the (joined) lesions that are detected by the rule lits',
    'burden': 'tumour voxels / liver voxels (tumour included); error is prediction minus reference; undefined where '
    'either has no liver',
}


def score_volume(
    prediction: np.ndarray, reference: np.ndarray, spacing: Spacing, targets: Sequence[str] = TARGETS
) -> dict[str, Any]:
    """All scores of a case, and what is needed to pool them over cases.

    Args:
        prediction: labels [slices, rows, columns] in {0, 1, 2}; 2 is tumour, 1 or 2 is liver.
        reference: the same for the reference, of the same shape.
        spacing: mm between slices, rows and columns.
        targets: which of `TARGETS` to score.

    Returns:
        Flat scores; 'lesions' (an entry per reference lesion) and 'pooled' (voxel counts by target, lesion counts by
        rule and size, scores of detected lesions) for `pool`. Tumour burden needs both targets (or `add_burden`). Of a
        lesion `slice` is where its longest diameter is, `box` its top, left, bottom and right over all slices (voxels,
        ends exclusive).

    Raises:
        ValueError: shapes differ.
    """
    if prediction.shape != reference.shape:
        raise ValueError(f'prediction of shape {prediction.shape}, reference of shape {reference.shape}')
    scores: dict[str, Any] = {}
    pooled: dict[str, Any] = {'voxels': {}}
    for target in targets:
        least = {'tumor': 2, 'liver': 1}[target]
        mine, theirs = prediction >= least, reference >= least
        box = bounding_box(mine, theirs)
        mine, theirs = mine[box], theirs[box]
        voxels = count_voxels(mine, theirs)
        pooled['voxels'][target] = list(voxels)
        ml = float(np.prod(spacing)) / 1000
        scores |= _named(target, volume_scores(voxels) | surface_scores(mine, theirs, spacing))
        scores |= _named(target, {'prediction_ml': voxels.prediction * ml, 'reference_ml': voxels.reference * ml})
        if target == 'tumor':
            scores['tumor.false_positive_ml'] = voxels.prediction * ml if not voxels.reference else NAN
            lesion_scores, entries, counts = _score_lesions(mine, theirs, spacing, box)
            scores |= lesion_scores
            pooled |= counts
    if set(TARGETS) <= set(targets):
        scores |= _burden(*(Voxels(*pooled['voxels'][target]) for target in TARGETS))
    return scores | ({'lesions': entries} if 'tumor' in targets else {}) | {'pooled': pooled}


def add_burden(scores: dict[str, Any], liver_voxels: int) -> None:
    """Add the tumour burden of a prediction without a liver of its own: both tumours by that of the reference."""
    scores |= _burden(Voxels(*scores['pooled']['voxels']['tumor']), Voxels(liver_voxels, liver_voxels, liver_voxels))


def mean_scores(cases: Sequence[Mapping[str, Any]]) -> tuple[dict[str, float], dict[str, int]]:
    """The mean of every flat score over the cases where it is defined, and how many these are."""
    names = list(dict.fromkeys(name for case in cases for name in case if '.' in name))
    count = {name: sum(case[name] == case[name] for case in cases) for name in names}
    return {name: mean([case[name] for case in cases]) for name in names}, count


def pool(cases: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The global scores of the results of `score_volume` (with the same targets each)."""
    scores: dict[str, float] = {}
    for target in cases[0]['pooled']['voxels']:
        counts = np.sum([case['pooled']['voxels'][target] for case in cases], axis=0)
        scores |= _named(target, volume_scores(Voxels(*counts.tolist())))
    if 'tumor' in cases[0]['pooled']['voxels']:
        counted = [case['pooled']['counts'] for case in cases]
        together = {
            rule: {size: np.sum([each[rule][size] for each in counted], axis=0).tolist() for size in sizes}
            for rule, sizes in counted[0].items()
        }
        dices = [lesion['dice'] for case in cases for lesion in case['lesions']]
        scores |= _lesion_scores(together, sum(case['pooled']['iou_sum'] for case in cases), dices)
        _, _, predicted, right = together['iou0']['all']
        scores['lesion.false_positives_per_case'] = (predicted - right) / len(cases)
        detected = [each for case in cases for each in case['pooled']['detected']]
        scores |= _named('detected', {name: mean([each[name] for each in detected]) for name in DETECTED})
    if 'burden.error' in cases[0]:
        errors = burden_errors(np.array([case['burden.error'] for case in cases]))
        scores |= {name.replace('_', '.', 1): value for name, value in errors.items()}
    return scores


def _score_lesions(
    prediction: np.ndarray, reference: np.ndarray, spacing: Spacing, box: Box
) -> tuple[dict[str, float], list[dict[str, Any]], dict[str, Any]]:
    """Flat scores, an entry per reference lesion, and what `pool` needs of boolean masks [slices, rows, columns].

    `box` is where the masks were cut out.
    """
    truth, guess = pieces.find_lesions(reference), pieces.find_lesions(prediction)
    pairs = pieces.find_pairs(truth, guess)
    groups = pieces.join_as_lits(truth, guess, pairs)
    found = pieces.found_lesions(truth, guess, pairs, groups)
    (sizes, planes), (others, _) = (pieces.longest_axial_diameters(each, spacing) for each in (truth, guess))
    counts = {rule: pieces.count_detections(*both, (sizes, others)) for rule, both in found.items()}
    dices = pieces.lesion_dices(truth, guess, pairs).tolist()
    iou = float(pairs.iou[pairs.iou > 0.5].sum())
    detected = _detected(truth, guess, groups, spacing)
    scores = _lesion_scores(counts, iou, dices)
    scores |= _named('detected', {name: mean([each[name] for each in detected]) for name in DETECTED})
    ml = float(np.prod(spacing)) / 1000
    entries = [
        {
            'volume_ml': int(truth.voxels[i]) * ml,
            'diameter_mm': float(sizes[i]),
            'slice': int(planes[i]) + box[0].start,
            'box': _sides(truth.boxes[i], box),
            'dice': dices[i],
            **{f'found_{rule}': bool(found[rule][0][i]) for rule in pieces.RULES},
        }
        for i in range(len(truth.voxels))
    ]
    return scores, entries, {'counts': counts, 'iou_sum': iou, 'detected': detected}


def _lesion_scores(counts: dict[str, dict[str, list[int]]], iou_sum: float, dices: Sequence[float]) -> dict[str, float]:
    scores = {'dice': mean(dices)}
    for rule, by_size in counts.items():
        for size, numbers in by_size.items():
            ending = rule if size == 'all' else f'{rule}_{size}'
            scores |= {f'{name}_{ending}': value for name, value in pieces.detection_scores(numbers).items()}
    return _named('lesion', scores | pieces.panoptic_scores(iou_sum, counts['iou50']['all']))


def _detected(truth: Lesions, guess: Lesions, groups: Groups, spacing: Spacing) -> list[dict[str, float]]:
    """LiTS's scores of each group that is detected."""
    results = []
    for group in np.flatnonzero(groups.iou > 0.5):
        members = [np.flatnonzero(of == group) for of in (groups.prediction, groups.reference)]
        boxes = [lesions.boxes[i] for lesions, mine in zip((guess, truth), members, strict=True) for i in mine]
        box = tuple(slice(min(b[k].start for b in boxes), max(b[k].stop for b in boxes)) for k in range(3))
        mine, theirs = (
            np.append(False, of == group)[lesions.numbers[box]]  # by piece number, 0 is outside
            for lesions, of in ((guess, groups.prediction), (truth, groups.reference))
        )
        results.append(volume_scores(count_voxels(mine, theirs)) | border_scores(mine, theirs, spacing))
    return results


def _sides(lesion: Box, box: Box) -> list[int]:
    """Top, left, bottom, right of a lesion found within a box."""
    _, rows, columns = (slice(own.start + of.start, own.stop + of.start) for own, of in zip(lesion, box, strict=True))
    return [rows.start, columns.start, rows.stop, columns.stop]


def _burden(tumor: Voxels, liver: Voxels) -> dict[str, float]:
    prediction = tumor_burden(tumor.prediction, liver.prediction)
    reference = tumor_burden(tumor.reference, liver.reference)
    return _named('burden', {'prediction': prediction, 'reference': reference, 'error': prediction - reference})


def _named(start: str, scores: dict[str, float]) -> dict[str, float]:
    return {f'{start}.{name}': value for name, value in scores.items()}
