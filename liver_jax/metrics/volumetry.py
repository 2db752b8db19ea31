"""Volumes of masks: Dice, VOE and RVD from voxel counts, and the tumour burden. A score without a value is NaN."""

from typing import Any, NamedTuple

import numpy as np

NAN = float('nan')


class Voxels(NamedTuple):
    """Voxel counts of a prediction, of its reference, and of what both have."""

    prediction: int
    reference: int
    both: int


def count_voxels(prediction: np.ndarray, reference: np.ndarray) -> Voxels:
    """Counts of two boolean masks of one shape."""
    return Voxels(*(int(np.count_nonzero(mask)) for mask in (prediction, reference, prediction & reference)))


def volume_scores(voxels: Voxels) -> dict[str, float]:
    """'dice', 'dice_lits', 'voe' and 'rvd' (Heimann et al., IEEE TMI 28:1251, 2009, there in per cent).

    Dice = 2|P∩R| / (|P| + |R|); VOE = 1 - |P∩R| / |P∪R|; RVD = (|P| - |R|) / |R|, positive where too much was
    predicted. Both empty: NaN, but `dice_lits` is 1. Only the reference empty: RVD is NaN.
    """
    prediction, reference, both = voxels
    union = prediction + reference - both
    dice = 2 * both / (prediction + reference) if union else NAN
    return {
        'dice': dice,
        'dice_lits': dice if union else 1.0,
        'voe': 1 - both / union if union else NAN,
        'rvd': (prediction - reference) / reference if reference else NAN,
    }


def tumor_burden(tumor_voxels: int, liver_voxels: int) -> float:
    """The part of the liver (tumour included) that is tumour; NaN without a liver."""
    return tumor_voxels / liver_voxels if liver_voxels else NAN


def burden_errors(differences: np.ndarray) -> dict[str, float]:
    """'burden_rmse' and 'burden_max' (largest absolute) of burden differences [cases]; NaN entries are left out."""
    known = np.asarray(differences, np.float64)
    known = known[~np.isnan(known)]
    if not len(known):
        return {'burden_rmse': NAN, 'burden_max': NAN}
    return {'burden_rmse': float(np.sqrt(np.mean(known**2))), 'burden_max': float(np.abs(known).max())}


def mean(values: Any) -> float:
    """Mean of the defined values; NaN when there is none."""
    defined = np.asarray(values, np.float64)
    defined = defined[~np.isnan(defined)]
    return float(defined.mean()) if len(defined) else NAN
