"""Overlap of masks: counts on the device, Dice, IoU, precision, recall and F1 from them on the host.

With TP, FP and FN the true positive, false positive and false negative pixels:
Dice = F1 = 2TP / (2TP + FP + FN) (Dice 1945; van Rijsbergen 1979), IoU = TP / (TP + FP + FN) (Jaccard 1912),
precision = TP / (TP + FP), recall = TP / (TP + FN). A score whose denominator is zero is undefined: NaN.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

EMPTY_RULE = (
    'Dice, IoU and F1 of an image (or case) whose reference and prediction are both empty are undefined and left out '
    'of the averages; where only one of them is empty they are 0. Precision needs a predicted pixel, recall a '
    'reference pixel; without one they are undefined and left out. SSIM of two empty masks is 1 and counts.'
)


class Counts(NamedTuple):
    """Pixel counts, of any one shape."""

    tp: np.ndarray | jax.Array
    fp: np.ndarray | jax.Array
    fn: np.ndarray | jax.Array
    tn: np.ndarray | jax.Array

    def total(self) -> 'Counts':
        """The counts of all pixels together (on the host)."""
        return Counts(*(np.asarray(count, np.int64).sum() for count in self))


def count_pixels(prediction: jax.Array, reference: jax.Array) -> Counts:
    """Counts [N] (int32) of boolean masks [N, ...]; traceable."""
    axes = tuple(range(1, prediction.ndim))

    def count(pixels: jax.Array) -> jax.Array:
        return jnp.sum(pixels, axis=axes, dtype=jnp.int32)

    return Counts(
        count(prediction & reference),
        count(prediction & ~reference),
        count(~prediction & reference),
        count(~prediction & ~reference),
    )


def overlap_scores(counts: Counts) -> dict[str, np.ndarray]:
    """'dice', 'iou', 'precision', 'recall', 'f1' (float64) of counts of any shape; NaN where undefined."""
    tp, fp, fn = (np.asarray(count, np.float64) for count in counts[:3])
    dice = _divide(2 * tp, 2 * tp + fp + fn)
    return {
        'dice': dice,
        'iou': _divide(tp, tp + fp + fn),
        'precision': _divide(tp, tp + fp),
        'recall': _divide(tp, tp + fn),
        'f1': dice,
    }


def _divide(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=np.asarray(whole) > 0)
