"""Counts per image -> scores per image, per case and pooled. Plain data, on the host."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from liver_jax.data.store import SliceRow
from liver_jax.metrics.overlap import Counts, overlap_scores
from liver_jax.metrics.volumetry import mean

NAMES = ('dice', 'iou', 'precision', 'recall', 'f1')


@dataclasses.dataclass(frozen=True)
class ImageScores:
    """What one pass over slices gives, an entry per slice: counts, SSIM, and the loss trained with (or None)."""

    slices: Sequence[SliceRow]
    counts: Counts
    ssim: np.ndarray
    loss: np.ndarray | None = None

    @property
    def not_finite(self) -> np.ndarray:
        """Places of the slices whose loss is NaN or infinite; means leave NaN out, so look here."""
        return np.flatnonzero(~np.isfinite(self.loss)) if self.loss is not None else np.empty(0, int)


def summarise(scores: ImageScores) -> dict[str, float]:
    """Every score by its average: `dice_image` (over slices), `dice_case` (over cases), `dice_pooled` (all pixels).

    `ssim` is the mean over slices, `ssim_case` over cases. Undefined (NaN) scores are left out of means; a mean of
    nothing is NaN.
    """
    cases = case_scores(scores)
    summary = {}
    for name, values in overlap_scores(scores.counts).items():
        summary[f'{name}_image'] = mean(values)
        summary[f'{name}_case'] = mean([case[name] for case in cases])
        summary[f'{name}_pooled'] = float(overlap_scores(scores.counts.total())[name])
    summary['ssim'] = mean(scores.ssim)
    summary['ssim_case'] = mean([case['ssim'] for case in cases])
    if scores.loss is not None:
        summary['loss'] = mean(scores.loss)
    return summary


def case_scores(scores: ImageScores) -> list[dict[str, Any]]:
    """A row per case: scores of its pixels pooled, the mean SSIM of its slices, pixel totals."""
    names = np.array([row.case for row in scores.slices])
    rows = []
    for case in dict.fromkeys(names.tolist()):
        chosen = np.flatnonzero(names == case)
        counts = Counts(*(np.asarray(count)[chosen] for count in scores.counts)).total()
        rows.append(
            {
                'case': case,
                'patient': scores.slices[chosen[0]].patient,
                'slices': len(chosen),
                **{name: float(value) for name, value in overlap_scores(counts).items()},
                'ssim': mean(scores.ssim[chosen]),
                **_pixels(counts),
            }
        )
    return rows


def image_scores(scores: ImageScores) -> list[dict[str, Any]]:
    """A row per slice."""
    values = overlap_scores(scores.counts)
    return [
        {
            'case': row.case,
            'patient': row.patient,
            'slice': row.index,
            **{name: float(values[name][i]) for name in NAMES},
            'ssim': float(scores.ssim[i]),
            **_pixels(Counts(*(count[i] for count in scores.counts))),
        }
        for i, row in enumerate(scores.slices)
    ]


def _pixels(counts: Counts) -> dict[str, int]:
    return {
        'reference_pixels': int(counts.tp + counts.fn),
        'predicted_pixels': int(counts.tp + counts.fp),
        'common_pixels': int(counts.tp),
    }
