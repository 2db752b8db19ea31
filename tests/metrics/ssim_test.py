"""SSIM of masks against scikit-image and against the formula by hand."""

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from liver_jax.metrics.ssim import ssim_masks


def test_equals_scikit_image_in_double_precision():
    rng = np.random.default_rng(0)
    first, second = rng.random((2, 32, 32)) < 0.3
    expected = structural_similarity(first.astype(float), second.astype(float), data_range=1.0)
    assert ssim_masks(first, second) == pytest.approx(expected, abs=1e-6)


def test_one_window_by_hand():
    # 7x7 is a single window. Prediction empty, reference with 7 of 49 pixels: mean 1/7, variance 7/49*6/7*49/48.
    reference = np.zeros((7, 7), bool)
    reference[3] = True
    mean, variance = 1 / 7, (1 / 7) * (6 / 7) * 49 / 48
    c1, c2 = 0.01**2, 0.03**2
    expected = (c1 * c2) / ((mean**2 + c1) * (variance + c2))
    assert ssim_masks(np.zeros((7, 7), bool), reference) == pytest.approx(expected, abs=1e-6)


def test_equal_masks_score_one_and_an_empty_prediction_scores_high():
    reference = np.zeros((64, 64), bool)
    reference[30:34, 30:34] = True
    assert ssim_masks(reference, reference) == pytest.approx(1.0, abs=1e-6)
    assert ssim_masks(np.zeros_like(reference), reference) > 0.95
