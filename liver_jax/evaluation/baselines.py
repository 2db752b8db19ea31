"""What no network is needed for: predicting nothing, the whole liver, or what is dark in the liver; and the ceiling.

The last two baselines are given the liver of the reference. They exist for the target tumour; for a target that has
the liver in it they would be handed the answer.
"""

import numpy as np

from liver_jax.data.slices import prepare_slice, restore_slice
from liver_jax.data.store import SliceStore
from liver_jax.evaluation.evaluate import CHUNK, HALF, score_empty, score_masks
from liver_jax.evaluation.scores import ImageScores
from liver_jax.metrics.overlap import Counts, overlap_scores
from liver_jax.metrics.volumetry import mean

BASELINES = ('all_zero', 'whole_liver', 'hu_threshold')
CEILINGS = {'ceiling_best': 'best', 'ceiling_soft': 'soft', 'ceiling_nearest': 'nearest'}


def target_of(labels: np.ndarray, target: str) -> np.ndarray:
    """Where labels in {0, 1, 2} are the target: boolean, of the same shape."""
    return {'tumor': labels == 2, 'liver': labels == 1, 'liver_or_tumor': labels >= 1}[target]


def baseline_masks(hu: np.ndarray, labels: np.ndarray, target: str, hu_below: float | None) -> dict[str, np.ndarray]:
    """The predictions of the baselines for a slice [rows, columns], boolean; `hu_below` as `fit_hu_threshold` gives."""
    masks = {'all_zero': np.zeros(labels.shape, bool)}
    if target == 'tumor':
        masks['whole_liver'] = labels >= 1
        if hu_below is not None:
            masks['hu_threshold'] = masks['whole_liver'] & (hu < hu_below)
    return masks


def ceiling_masks(
    hu: np.ndarray, labels: np.ndarray, target: str, window: tuple[float, float], side: int
) -> dict[str, np.ndarray]:
    """The reference itself after a way to the network's grid and back, boolean [rows, columns].

    `ceiling_soft` and `ceiling_nearest` by the resizing of masks, then cut at one half like a network's probabilities.
    `ceiling_best` is of soft masks, cut where the Dice of this slice is highest: small lesions never reach one half,
    and a network may say more than the mask that it was trained on.
    """
    reference = target_of(labels, target)
    if not reference.any():
        return {name: np.zeros(labels.shape, bool) for name in CEILINGS}
    restored = {}
    for resizing in ('soft', 'nearest'):
        prepared = prepare_slice(hu, labels, window, side, resizing)
        small = prepared_target(prepared['liver'], prepared['tumor'], target)
        restored[resizing] = restore_slice(small.astype(np.float32) / 255, *labels.shape)
    return {
        'ceiling_best': restored['soft'] >= _best_cut(restored['soft'], reference),
        'ceiling_soft': restored['soft'] >= 0.5,
        'ceiling_nearest': restored['nearest'] >= 0.5,
    }


def _best_cut(values: np.ndarray, reference: np.ndarray) -> float:
    """The cut of `values` in [0, 1], of 1/256 to 1 in steps of 1/256, with the highest Dice; of equals the lowest."""
    levels = np.minimum((values * 256).astype(int), 256)
    marked, hits = (
        np.bincount(some.ravel(), minlength=257)[::-1].cumsum()[::-1][1:] for some in (levels, levels[reference])
    )
    return (1 + int(np.argmax(2 * hits / (marked + np.count_nonzero(reference))))) / 256


def prepared_target(liver: np.ndarray, tumor: np.ndarray, target: str) -> np.ndarray:
    """The mask of the target, uint8 as prepared, of those of the liver (with tumour) and the tumour, as the store's."""
    return {'tumor': tumor, 'liver_or_tumor': liver, 'liver': liver - np.minimum(liver, tumor)}[target]


def score_baselines(store: SliceStore, rows: np.ndarray, target: str, hu_below: float | None) -> dict[str, ImageScores]:
    """Scores of the baselines on prepared slices, by name."""
    low, high = store.manifest['settings']['window']

    def liver(some: np.ndarray) -> np.ndarray:
        return store.masks(some, 'liver_or_tumor') >= HALF

    def dark(some: np.ndarray) -> np.ndarray:
        return liver(some) & (low + store.images(some).astype(np.float32) / 255 * (high - low) < hu_below)

    scores = {'all_zero': score_empty(store, rows, target)}
    if target == 'tumor':
        scores['whole_liver'] = score_masks(store, rows, target, liver)
        if hu_below is not None:
            scores['hu_threshold'] = score_masks(store, rows, target, dark)
    return scores


def fit_hu_threshold(store: SliceStore, rows: np.ndarray) -> float:
    """HU below which liver is best called tumour on these prepared slices: the highest mean Dice per case.

    Of equals the middle one; where nothing is tumour, the low end of the window.
    """
    cases = np.array([store.rows[row].case for row in rows])
    dice = np.array([_dice_by_grey(store, rows[cases == case]) for case in dict.fromkeys(cases.tolist())])
    averages = np.array([mean(values) for values in dice.T])  # of the greys 0 … 256
    best = np.flatnonzero(averages >= np.nan_to_num(averages).max() - 1e-12)
    grey = best[len(best) // 2] if len(best) else 0
    low, high = store.manifest['settings']['window']
    return float(low + (grey - 0.5) / 255 * (high - low))


def _dice_by_grey(store: SliceStore, rows: np.ndarray) -> np.ndarray:
    """Dice [257] of calling tumour what is liver and darker than a grey, pixels of all rows pooled."""
    tumor, other = np.zeros(256, np.int64), np.zeros(256, np.int64)
    for start in range(0, len(rows), CHUNK):
        some = rows[start : start + CHUNK]
        greys, inside = store.images(some), store.masks(some, 'liver_or_tumor') >= HALF
        reference = store.masks(some, 'tumor') >= HALF
        tumor += np.bincount(greys[inside & reference], minlength=256)
        other += np.bincount(greys[inside & ~reference], minlength=256)
    tp, fp = (np.concatenate([[0], np.cumsum(counts)]) for counts in (tumor, other))
    return overlap_scores(Counts(tp, fp, tumor.sum() - tp, fp))['dice']
