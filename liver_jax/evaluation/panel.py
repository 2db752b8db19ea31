"""The honest panel: one network, one test set, and every Dice that can be reported of it.

What is counted is one slice read in one way (`SliceCount`); averages, slice sets and rules for empties come from these
counts afterwards, so that all readings are of one pass and differ by nothing else.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from liver_jax.evaluation.scores import ImageScores
from liver_jax.metrics.overlap import Counts, overlap_scores
from liver_jax.metrics.volumetry import mean

AVERAGES = ('image', 'case', 'pooled')
RESOLUTIONS = ('network', 'native')
SLICES = ('tumor', 'all')
EMPTY_RULES: dict[str, float] = {'left_out': float('nan'), 'one': 1.0, 'zero': 0.0}
PANEL_RULE = (
    'image: mean of the Dice of slices; case: of the pixels of each case; pooled: one Dice of all pixels. network: '
    'scored on the grid of the network; native: probabilities brought back to the grid of the scan (bilinear), then '
    'thresholded. tumor: slices with tumour in the reference; all: every slice. A slice (or case, or the pool) without '
    'a pixel in reference and prediction is left out of the mean, counts as one, or as zero.'
)


class SliceCount(NamedTuple):
    """True positive, false positive and false negative pixels of a slice at a resolution, as a model has it."""

    case: str
    patient: str
    with_tumor: bool
    resolution: str
    model: str
    tp: int
    fp: int
    fn: int


def count_slice(
    case: str,
    patient: str,
    with_tumor: bool,
    resolution: str,
    reference: np.ndarray,
    predictions: dict[str, np.ndarray],
) -> list[SliceCount]:
    """Counts of boolean predictions by model, [rows, columns] as `reference`."""
    positive, counts = int(np.count_nonzero(reference)), []
    for model, prediction in predictions.items():
        tp, marked = int(np.count_nonzero(prediction & reference)), int(np.count_nonzero(prediction))
        counts.append(SliceCount(case, patient, with_tumor, resolution, model, tp, marked - tp, positive - tp))
    return counts


def counts_of_scores(scores: ImageScores, model: str) -> list[SliceCount]:
    """The counts that were scored on prepared slices: the network's resolution."""
    return [
        SliceCount(row.case, row.patient, row.tumor_area > 0, 'network', model, int(tp), int(fp), int(fn))
        for row, tp, fp, fn in zip(scores.slices, *scores.counts[:3], strict=True)
    ]


def panel_rows(counts: Sequence[SliceCount], target: str, complete: bool) -> list[dict[str, Any]]:
    """A row per model, resolution, slice set, average and rule: `dice`, NaN where nothing is defined.

    Without `complete` the slices are not all of their scans, and rows for all slices are left out.
    """
    rows = []
    for model, resolution in dict.fromkeys((count.model, count.resolution) for count in counts):
        own = [count for count in counts if (count.model, count.resolution) == (model, resolution)]
        for slices in SLICES if complete else SLICES[:1]:
            chosen = [count for count in own if count.with_tumor or slices == 'all']
            for average in AVERAGES:
                dice = _dice(chosen, average)
                rows += [
                    {
                        'target': target,
                        'average': average,
                        'resolution': resolution,
                        'slices': slices,
                        'empty_rule': rule,
                        'model': model,
                        'dice': mean(np.where(np.isnan(dice), value, dice)),
                    }
                    for rule, value in EMPTY_RULES.items()
                ]
    return rows


def mean_panel(panels: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The mean of panels with the same rows, such as those of several seeds; undefined ones are left out."""
    return [{**same[0], 'dice': mean([row['dice'] for row in same])} for same in zip(*panels, strict=True)]


def patient_dice(counts: Iterable[SliceCount], model: str, resolution: str, slices: str) -> dict[str, float]:
    """Dice by patient: the mean over the patient's cases, those that are empty on both sides left out (or NaN)."""
    patients: dict[str, list[SliceCount]] = {}
    for count in counts:
        if (count.model, count.resolution) == (model, resolution) and (count.with_tumor or slices == 'all'):
            patients.setdefault(count.patient, []).append(count)
    return {patient: mean(_dice(own, 'case')) for patient, own in patients.items()}


def _dice(counts: Sequence[SliceCount], average: str) -> np.ndarray:
    """The Dice that are averaged, [slices], [cases] or [1]; NaN where both sides are empty."""
    if not counts:
        return np.zeros(0)
    tp, fp, fn = (np.array([getattr(count, name) for count in counts], np.int64) for name in ('tp', 'fp', 'fn'))
    if average != 'image':
        cases = [count.case if average == 'case' else '' for count in counts]
        names, number = np.unique(cases, return_inverse=True)
        tp, fp, fn = (np.bincount(number, values, len(names)) for values in (tp, fp, fn))
    return overlap_scores(Counts(tp, fp, fn, np.zeros_like(tp)))['dice']
