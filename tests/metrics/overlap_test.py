"""Every score against fractions worked by hand."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from liver_jax.metrics.overlap import Counts, count_pixels, overlap_scores

# prediction   reference     TP: the corner both have; FP: 2; FN: 1; TN: 5.
#   1 1 0        1 0 0
#   1 0 0        0 0 1
#   0 0 0        0 0 0
PREDICTION = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 0]], bool)
REFERENCE = np.array([[1, 0, 0], [0, 0, 1], [0, 0, 0]], bool)
EMPTY = np.zeros((3, 3), bool)


def test_counts_of_a_worked_example():
    counts = count_pixels(jnp.array([PREDICTION, EMPTY]), jnp.array([REFERENCE, REFERENCE]))
    np.testing.assert_array_equal(np.stack(counts), [[1, 0], [2, 0], [1, 2], [5, 7]])


@pytest.mark.parametrize(
    ('name', 'fraction'), [('dice', 2 / 5), ('f1', 2 / 5), ('iou', 1 / 4), ('precision', 1 / 3), ('recall', 1 / 2)]
)
def test_scores_of_a_worked_example(name, fraction):
    scores = overlap_scores(Counts(np.array(1), np.array(2), np.array(1), np.array(5)))
    assert scores[name] == pytest.approx(fraction, abs=1e-12)


def test_perfect_prediction_scores_one_everywhere():
    counts = count_pixels(jnp.array([REFERENCE]), jnp.array([REFERENCE]))
    assert {float(value[0]) for value in overlap_scores(counts).values()} == {1.0}


def test_nothing_predicted_on_a_lesion_is_zero_and_precision_undefined():
    scores = overlap_scores(count_pixels(jnp.array([EMPTY]), jnp.array([REFERENCE])))
    assert [float(scores[name][0]) for name in ('dice', 'iou', 'recall', 'f1')] == [0, 0, 0, 0]
    assert np.isnan(scores['precision'][0])


def test_false_alarm_on_an_empty_image_is_zero_and_recall_undefined():
    scores = overlap_scores(count_pixels(jnp.array([PREDICTION]), jnp.array([EMPTY])))
    assert [float(scores[name][0]) for name in ('dice', 'iou', 'precision', 'f1')] == [0, 0, 0, 0]
    assert np.isnan(scores['recall'][0])


def test_both_empty_is_undefined():
    scores = overlap_scores(count_pixels(jnp.array([EMPTY]), jnp.array([EMPTY])))
    assert all(np.isnan(value[0]) for value in scores.values())


def test_totals_do_not_overflow_int32():
    large = np.full(4, 2**30, np.int32)
    assert Counts(large, large, large, large).total().tp == 2**32


@given(st.lists(st.tuples(*[st.integers(0, 10**6)] * 4), min_size=1, max_size=5))
def test_dice_and_iou_are_tied_by_their_identity(rows):
    scores = overlap_scores(Counts(*np.array(rows).T))
    defined = ~np.isnan(scores['dice'])
    dice, iou = scores['dice'][defined], scores['iou'][defined]
    np.testing.assert_allclose(dice, 2 * iou / (1 + iou), atol=1e-12)
    assert ((iou >= 0) & (iou <= dice) & (dice <= 1)).all()
