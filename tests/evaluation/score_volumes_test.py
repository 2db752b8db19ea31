"""A whole case scored: the flat keys, what is pooled, tumour-free and empty masks, both orders of the axes."""

import math
import multiprocessing
import re
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from liver_jax.evaluation.score_volumes import pool, score_volume
from liver_jax.metrics.volumetry import mean

SPACING = (2.0, 1.0, 1.0)


def box(labels, value, *sides):
    labels[tuple(slice(*side) for side in sides)] = value


def pair():
    """A liver of 8x16x16 with lesions of 2x4x4 and 1x2x2 voxels; the first is predicted half, the second missed."""
    reference = np.zeros((10, 20, 20), np.uint8)
    box(reference, 1, (1, 9), (2, 18), (2, 18))
    prediction = reference.copy()
    box(reference, 2, (2, 4), (4, 8), (4, 8))
    box(reference, 2, (6, 7), (12, 14), (12, 14))
    box(prediction, 2, (2, 4), (4, 8), (4, 7))
    return prediction, reference


def flat(scores):
    return {name: value for name, value in scores.items() if isinstance(value, float)}


def test_a_worked_case():
    scores = score_volume(*pair(), SPACING)
    # 24 voxels predicted, 32 + 4 in the reference, 24 in both; a voxel has 2 mm³.
    expected = {
        'tumor.dice': 2 * 24 / (24 + 36),
        'tumor.voe': 1 - 24 / 36,
        'tumor.rvd': (24 - 36) / 36,
        'tumor.prediction_ml': 0.048,
        'tumor.reference_ml': 0.072,
        'liver.dice': 1.0,
        'liver.assd': 0.0,
        'lesion.dice': (2 * 24 / (24 + 32) + 0) / 2,
        'lesion.recall_iou0': 1 / 2,
        'lesion.precision_iou50': 1.0,
        'lesion.f1_iou50': 2 / 3,
        'lesion.recall_iou50_under_10mm': 1 / 2,
        'lesion.pq': (24 / 32) / (1 + 1 / 2),
        'detected.dice': 2 * 24 / (24 + 32),
        'detected.msd': 1.0,
        'burden.reference': 36 / (8 * 16 * 16),
        'burden.error': -12 / (8 * 16 * 16),
    }
    assert {name: scores[name] for name in expected} == pytest.approx(expected)
    assert math.isnan(scores['tumor.false_positive_ml'])
    assert [lesion['found_iou50'] for lesion in scores['lesions']] == [True, False]
    assert scores['lesions'][0]['volume_ml'] == pytest.approx(0.064)
    # Four rows and columns, from the middle of the outer face of one corner to that of the other.
    assert scores['lesions'][0]['diameter_mm'] == pytest.approx(math.hypot(4, 3))


def test_a_tumour_free_reference_is_no_stumbling_block():
    prediction, reference = pair()
    reference[reference == 2] = 1
    scores = score_volume(prediction, reference, SPACING)
    assert (scores['tumor.dice'], scores['tumor.voe'], scores['tumor.nsd_1mm']) == (0, 1, 0)
    assert scores['tumor.false_positive_ml'] == pytest.approx(0.048)
    assert scores['lesion.precision_iou0'] == 0
    for name in ('tumor.rvd', 'tumor.assd', 'lesion.recall_iou0', 'lesion.dice', 'detected.assd'):
        assert math.isnan(scores[name]), name
    prediction[prediction == 2] = 1
    scores = score_volume(prediction, reference, SPACING)
    assert math.isnan(scores['tumor.dice'])
    assert (scores['tumor.dice_lits'], scores['tumor.false_positive_ml']) == (1, 0)


def test_nothing_at_all_and_no_liver():
    nothing = np.zeros((4, 5, 6), np.uint8)
    scores = score_volume(nothing, nothing, SPACING)
    defined = {name: value for name, value in flat(scores).items() if not math.isnan(value)}
    assert {name for name, value in defined.items() if value} == {'tumor.dice_lits', 'liver.dice_lits'}
    assert math.isnan(score_volume(nothing, np.ones_like(nothing), SPACING)['burden.error'])


def test_one_target_alone():
    assert {name.split('.')[0] for name in flat(score_volume(*pair(), SPACING, ['liver']))} == {'liver'}
    found = {name.split('.')[0] for name in flat(score_volume(*pair(), SPACING, ['tumor']))}
    assert found == {'tumor', 'lesion', 'detected'}


def test_global_scores_pool_voxels_and_lesions():
    prediction, reference = pair()
    worse = np.where(prediction == 2, 1, prediction).astype(np.uint8)
    box(worse, 2, (7, 8), (4, 6), (14, 16))  # four voxels beside all lesions
    cases = [score_volume(each, reference, SPACING) for each in (prediction, worse)]
    scores = pool(cases)
    assert scores['tumor.dice'] == pytest.approx(2 * 24 / (24 + 4 + 36 + 36))
    assert mean([case['tumor.dice'] for case in cases]) == pytest.approx((2 * 24 / 60 + 0) / 2)
    assert scores['lesion.recall_iou0'] == 1 / 4
    assert scores['lesion.precision_iou0'] == 1 / 2
    assert scores['lesion.false_positives_per_case'] == 1 / 2
    assert scores['lesion.dice'] == pytest.approx((2 * 24 / 56) / 4)
    assert scores['detected.dice'] == pytest.approx(2 * 24 / 56)
    liver = 8 * 16 * 16
    assert scores['burden.rmse'] == pytest.approx(math.sqrt(((12 / liver) ** 2 + (32 / liver) ** 2) / 2))
    assert scores['burden.max'] == pytest.approx(32 / liver)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match='shape'):
        score_volume(np.zeros((2, 3, 4), np.uint8), np.zeros((2, 4, 3), np.uint8), SPACING)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32 - 1), st.integers(0, 7))
def test_flips_and_space_around_change_nothing(seed, flips):
    noise = np.random.default_rng(seed).random((2, 8, 12, 10))
    volumes = [np.digitize(ndimage.gaussian_filter(each, 1), [0.45, 0.54]).astype(np.uint8) for each in noise]
    expected = flat(score_volume(*volumes, SPACING))
    axes = [axis for axis in range(3) if flips >> axis & 1]
    flipped = [np.pad(np.flip(each, axes), 2) for each in volumes]
    found = flat(score_volume(*flipped, SPACING))
    # The joining of LiTS may choose between equals by their order.
    same = [name for name in expected if '_lits' not in name and not name.startswith('detected')]
    assert {name: found[name] for name in same} == pytest.approx({name: expected[name] for name in same}, nan_ok=True)


def score_large():
    """Scores of 512x512x130 voxels with 20 lesions, and the peak of memory (GB); for a process of its own."""
    reference = np.zeros((130, 512, 512), np.uint8)
    box(reference, 1, (5, 125), (100, 380), (70, 390))
    for number in range(20):
        place = 35 + 60 * (number % 2), 180 + 30 * (number // 2 % 5), 130 + 90 * (number // 10)
        z, y, x = np.ogrid[-14:15, -14:15, -14:15]
        around = tuple(slice(each - 14, each + 15) for each in place)
        reference[around][z**2 + y**2 + x**2 < (4 + number / 2) ** 2] = 2
    scores = score_volume(np.roll(reference, (1, 2), (0, 1)), reference, (1.0, 0.75, 0.75))
    peak = re.search(r'VmHWM:\s+(\d+) kB', Path('/proc/self/status').read_text())
    return scores, int(peak[1]) / 2**20


def test_a_large_volume_fits_into_three_gigabytes():
    with ProcessPoolExecutor(1, multiprocessing.get_context('spawn')) as pool:
        scores, gigabytes = pool.submit(score_large).result()
    assert len(scores['lesions']) == 20
    assert scores['lesion.recall_iou0'] == 1
    assert gigabytes < 3
