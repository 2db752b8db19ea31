"""What is fitted to a network after training: threshold, temperature, smallest lesion. On validation, on nothing else.

`fit` takes a split and reads its validation part; there is no argument by which other slices could come in.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import cc3d
import numpy as np
from scipy.special import expit, logit

from liver_jax.data.splits import Split
from liver_jax.data.store import SliceStore
from liver_jax.errors import UserError
from liver_jax.evaluation.baselines import fit_hu_threshold, target_of
from liver_jax.evaluation.evaluate import HALF
from liver_jax.evaluation.scans import Part, make_part
from liver_jax.evaluation.volumes import Predictor, predict_scan
from liver_jax.metrics.calibration import EDGES, LogitHistogram, count_logits, fit_temperature, no_logits
from liver_jax.metrics.geometry import bounding_box
from liver_jax.metrics.overlap import Counts, overlap_scores
from liver_jax.metrics.volumetry import mean

SMALLEST_MM3 = (0, 10, 20, 50, 100, 200, 500, 1000)  # a ball of 10 mm has 524 mm³
THRESHOLDS = np.linspace(0.1, 0.9, 9)  # on whole scans, where each costs a labelling of components
_CANDIDATES = np.flatnonzero((EDGES >= -4) & (EDGES <= 4))[::5]  # thresholds .018 to .982, steps of 0.1 in the logit


@dataclasses.dataclass(frozen=True)
class Fitted:
    """What validation says of a network.

    `threshold` on the probability and `min_mm3` (3D components with less are dropped), together by the mean Dice per
    case on whole scans, all slices; without scans the threshold alone, on prepared slices, and `min_mm3` is None.
    `val_dice` is the Dice that they reached. `temperature` is by the likelihood of prepared slices. `hu_below` is that
    of the baseline (None for other targets than tumour).
    """

    threshold: float
    min_mm3: float | None
    temperature: float
    hu_below: float | None
    val_dice: float

    def describe(self) -> dict[str, Any]:
        """As plain data, with the part it was fitted on."""
        return {'on': 'val', **dataclasses.asdict(self)}


class Pixels(NamedTuple):
    """Pixels by their logit: all of them, and those within the reference's liver (with its tumours)."""

    everywhere: LogitHistogram
    in_liver: LogitHistogram


def fit(predictor: Predictor, store: SliceStore, split: Split, target: str, scans: Any = None) -> Fitted:
    """Fit to the validation part of `split`; `scans` as in `make_part`."""
    part = make_part(store, split, 'val', scans)
    pixels = {case: each.everywhere for case, each in case_logits(predictor, store, part.rows, target).items()}
    min_mm3 = None
    if part.whole and part.scans:
        threshold, min_mm3, dice = _fit_to_scans(predictor, part, target)
    else:
        threshold, dice = fit_threshold(list(pixels.values()))
    return Fitted(
        threshold=threshold,
        min_mm3=min_mm3,
        temperature=fit_temperature(sum(pixels.values(), no_logits())),
        hu_below=fit_hu_threshold(store, part.rows) if target == 'tumor' else None,
        val_dice=dice,
    )


def case_logits(predictor: Predictor, store: SliceStore, rows: np.ndarray, target: str) -> dict[str, Pixels]:
    """Pixels of prepared slices by their logit, case by case; raises UserError where the network gives NaN."""
    found: dict[str, Pixels] = {}
    for some, probability in _predicted(predictor, store, rows):
        if np.isnan(probability).any():
            raise UserError(
                f'{store.path}: the network gives NaN for slices of {store.rows[some[0]].case}; expected '
                'probabilities, its training may have diverged: choose another --checkpoint'
            )
        logits = logit(np.clip(probability.astype(np.float64), 1e-9, 1 - 1e-9))
        references = store.masks(some, target) >= HALF
        livers = store.masks(some, 'liver_or_tumor') >= HALF
        for row, values, reference, liver in zip(some, logits, references, livers, strict=True):
            own = Pixels(count_logits(values, reference), count_logits(values[liver], reference[liver]))
            case = store.rows[row].case
            found[case] = sum_pixels([found[case], own]) if case in found else own
    return found


def sum_pixels(several: Iterable[Pixels]) -> Pixels:
    """The pixels of all."""
    everywhere, in_liver = no_logits(), no_logits()
    for each in several:
        everywhere, in_liver = everywhere + each.everywhere, in_liver + each.in_liver
    return Pixels(everywhere, in_liver)


def fit_threshold(cases: list[LogitHistogram]) -> tuple[float, float]:
    """The threshold with the highest mean Dice per case, and that Dice; of equals that nearest to .5.

    Half and NaN where no case has foreground or prediction.
    """
    dice = []
    for pixels in cases:
        tp, fp = (
            np.concatenate([[0], np.cumsum(counts[::-1])])[::-1][_CANDIDATES]
            for counts in (pixels.foreground, pixels.background)
        )
        dice.append(overlap_scores(Counts(tp, fp, pixels.foreground.sum() - tp, fp))['dice'])
    averages = np.array([mean(values) for values in np.transpose(dice)])
    if np.isnan(averages).all():
        return 0.5, float('nan')
    best = np.flatnonzero(averages >= np.nanmax(averages) - 1e-12)
    chosen = best[np.argmin(np.abs(EDGES[_CANDIDATES[best]]))]
    return float(expit(EDGES[_CANDIDATES[chosen]])), float(averages[chosen])


def _fit_to_scans(predictor: Predictor, part: Part, target: str) -> tuple[float, float, float]:
    """Threshold and smallest size with the highest mean Dice per case, and that Dice.

    Of equals the threshold nearest to .5, then the smaller size; NaN where no case has target or prediction.
    """
    dice = []
    for scan, _ in part.opened():
        level, reference = (
            np.zeros(scan.size, np.uint8),
            np.zeros(scan.size, bool),
        )  # level: thresholds that are reached
        for plane in predict_scan(predictor, scan):
            assert plane.labels is not None  # stores are made from labelled volumes
            level[plane.index] = np.searchsorted(THRESHOLDS, plane.probability, side='right')
            reference[plane.index] = target_of(plane.labels, target)
        voxel = float(np.prod(scan.spacing))
        dice.append([_dice_by_size(level > number, reference, voxel) for number in range(len(THRESHOLDS))])
    averages = np.array([[mean(cases) for cases in sizes] for sizes in np.transpose(dice, (1, 2, 0))])
    if np.isnan(averages).all():
        return 0.5, 0.0, float('nan')
    best = np.argwhere(averages >= np.nanmax(averages) - 1e-12).tolist()
    number, size = min(best, key=lambda each: (abs(THRESHOLDS[each[0]] - 0.5), each[1]))
    return float(THRESHOLDS[number]), float(SMALLEST_MM3[size]), float(averages[number, size])


def _dice_by_size(prediction: np.ndarray, reference: np.ndarray, voxel_mm3: float) -> np.ndarray:
    """Dice [sizes] after dropping components smaller than each of `SMALLEST_MM3`."""
    sizes = hits = np.zeros(0, np.int64)
    if prediction.any():
        box = bounding_box(prediction)
        numbers = cc3d.connected_components(np.ascontiguousarray(prediction[box]), connectivity=26)
        sizes = np.bincount(numbers.ravel())[1:]
        hits = np.bincount(numbers[reference[box]], minlength=len(sizes) + 1)[1:]
    kept = sizes * voxel_mm3 >= np.array(SMALLEST_MM3)[:, None]
    tp, marked = kept @ hits, kept @ sizes
    return overlap_scores(Counts(tp, marked - tp, np.count_nonzero(reference) - tp, tp))['dice']


def _predicted(predictor: Predictor, store: SliceStore, rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows and probabilities [rows, side, side], a batch at a time; a batch is fetched after the next is under way."""
    waiting = None
    for start in range(0, len(rows), predictor.batch_size):
        some = rows[start : start + predictor.batch_size]
        images = np.zeros((predictor.batch_size, predictor.side, predictor.side), np.uint8)
        images[: len(some)] = store.images(some)
        dispatched = some, predictor.function(images)
        if waiting:
            yield waiting[0], np.asarray(waiting[1])[: len(waiting[0])]
        waiting = dispatched
    if waiting:
        yield waiting[0], np.asarray(waiting[1])[: len(waiting[0])]
