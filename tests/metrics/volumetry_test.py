"""Volume scores against fractions worked by hand and against peers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn

from liver_jax.metrics.volumetry import Voxels, burden_errors, count_voxels, tumor_burden, volume_scores


def test_a_worked_example():
    # 6 voxels predicted, 4 in the reference, 3 in both: union 7.
    scores = volume_scores(Voxels(6, 4, 3))
    assert scores == pytest.approx({'dice': 6 / 10, 'dice_lits': 6 / 10, 'voe': 4 / 7, 'rvd': 2 / 4})


def test_rvd_has_the_sign_of_the_prediction_and_the_size_of_the_reference():
    assert volume_scores(Voxels(2, 8, 2))['rvd'] == -6 / 8
    assert volume_scores(Voxels(8, 2, 2))['rvd'] == 6 / 2


@pytest.mark.parametrize(
    ('voxels', 'expected'),
    [
        (Voxels(0, 0, 0), {'dice': None, 'dice_lits': 1, 'voe': None, 'rvd': None}),
        (Voxels(5, 0, 0), {'dice': 0, 'dice_lits': 0, 'voe': 1, 'rvd': None}),
        (Voxels(0, 5, 0), {'dice': 0, 'dice_lits': 0, 'voe': 1, 'rvd': -1}),
    ],
    ids=['both empty', 'reference empty', 'prediction empty'],
)
def test_empty_masks(voxels, expected):
    found = {name: None if np.isnan(value) else value for name, value in volume_scores(voxels).items()}
    assert found == expected


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1))
def test_peers_agree(seed):
    prediction, reference = np.random.default_rng(seed).random((2, 4, 5, 6)) < 0.4
    scores = volume_scores(count_voxels(prediction, reference))
    assert scores['dice'] == pytest.approx(sklearn.f1_score(reference.ravel(), prediction.ravel()), abs=1e-12)
    assert scores['voe'] == pytest.approx(1 - sklearn.jaccard_score(reference.ravel(), prediction.ravel()), abs=1e-12)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1))
def test_dice_and_voe_are_symmetric_and_do_not_care_for_flips(seed):
    prediction, reference = np.random.default_rng(seed).random((2, 4, 5, 6)) < 0.4
    scores = volume_scores(count_voxels(prediction, reference))
    swapped = volume_scores(count_voxels(reference, prediction))
    flipped = volume_scores(count_voxels(prediction[::-1, :, ::-1], reference[::-1, :, ::-1]))
    assert flipped == scores
    assert (swapped['dice'], swapped['voe']) == (scores['dice'], scores['voe'])


def test_burden_is_of_the_liver_with_its_tumours():
    assert tumor_burden(25, 100) == 0.25
    assert np.isnan(tumor_burden(0, 0))


def test_burden_errors_by_hand_and_the_largest_has_no_sign():
    # 0.3 too much is the largest error, though 0.1 too little is the largest of reference - prediction.
    errors = burden_errors(np.array([0.3, -0.1, np.nan]))
    assert errors == pytest.approx({'burden_rmse': np.sqrt((0.09 + 0.01) / 2), 'burden_max': 0.3})
    assert all(np.isnan(value) for value in burden_errors(np.array([np.nan])).values())
