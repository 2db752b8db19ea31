"""Averages over images, cases and pixels, worked by hand."""

import numpy as np
import pytest

from liver_jax.data.store import SliceRow
from liver_jax.evaluation.scores import ImageScores, case_scores, image_scores, summarise
from liver_jax.metrics.overlap import Counts

# Three slices of two cases: Dice 2/5, 1 and undefined (nothing there, nothing found).
ROWS = [SliceRow('a', 'p', 4, 0, 0), SliceRow('a', 'p', 5, 0, 0), SliceRow('b', 'q', 1, 0, 0)]
COUNTS = Counts(np.array([1, 4, 0]), np.array([2, 0, 0]), np.array([1, 0, 0]), np.array([5, 5, 9]))
SCORES = ImageScores(ROWS, COUNTS, np.array([0.5, 1.0, 0.9]), np.array([0.3, 0.1, 0.2]))


def test_image_averages_leave_out_the_undefined():
    summary = summarise(SCORES)
    assert summary['dice_image'] == pytest.approx((2 / 5 + 1) / 2)
    assert summary['iou_image'] == pytest.approx((1 / 4 + 1) / 2)
    assert summary['precision_image'] == pytest.approx((1 / 3 + 1) / 2)
    assert summary['recall_image'] == pytest.approx((1 / 2 + 1) / 2)
    assert summary['ssim'] == pytest.approx(0.8)
    assert summary['loss'] == pytest.approx(0.2)


def test_pooled_scores_come_from_one_confusion_matrix():
    summary = summarise(SCORES)
    assert summary['dice_pooled'] == summary['f1_pooled'] == pytest.approx(10 / 13)
    assert summary['iou_pooled'] == pytest.approx(5 / 8)
    assert summary['precision_pooled'] == pytest.approx(5 / 7)
    assert summary['recall_pooled'] == pytest.approx(5 / 6)


def test_case_averages_pool_within_a_case_first():
    first, second = case_scores(SCORES)
    assert first['dice'] == pytest.approx(10 / 13)
    assert (first['slices'], first['patient'], first['reference_pixels']) == (2, 'p', 6)
    assert np.isnan(second['dice'])
    summary = summarise(SCORES)
    assert summary['dice_case'] == pytest.approx(10 / 13)
    assert summary['ssim_case'] == pytest.approx((0.75 + 0.9) / 2)


def test_a_mean_of_nothing_is_undefined_not_zero():
    empty = ImageScores(ROWS[2:], Counts(*(count[2:] for count in COUNTS)), np.array([1.0]))
    assert np.isnan(summarise(empty)['dice_image'])
    assert 'loss' not in summarise(empty)


def test_rows_per_image_name_their_slice():
    first = image_scores(SCORES)[0]
    assert (first['case'], first['slice'], first['reference_pixels'], first['predicted_pixels']) == ('a', 4, 2, 3)
    assert first['dice'] == pytest.approx(2 / 5)
