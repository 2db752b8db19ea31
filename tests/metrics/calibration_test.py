"""Calibration by hand, against single pixels, and the temperature of a known scaling."""

import numpy as np
import pytest
from scipy.special import expit, logit

from liver_jax.metrics.calibration import calibration, count_logits, fit_temperature, no_logits


def drawn(scale=1.0, count=200_000):
    """Logits times `scale`, and a truth that follows the unscaled ones."""
    rng = np.random.default_rng(0)
    logits = rng.normal(-1, 2, count)
    return (scale * logits).astype(np.float32), rng.random(count) < expit(logits)


def test_bins_ece_and_brier_by_hand():
    # Four pixels at .1 (one is foreground), two at .7 (both are).
    logits = logit(np.array([0.1, 0.1, 0.1, 0.1, 0.7, 0.7]))
    found = calibration(count_logits(logits, np.array([1, 0, 0, 0, 1, 1], bool)), bins=4)
    low, none, high, last = found['bins']
    assert (low['count'], none['count'], high['count'], last['count']) == (4, 0, 2, 0)
    assert low['confidence'] == pytest.approx(0.1, abs=1e-3)
    assert (low['frequency'], high['frequency']) == (1 / 4, 1)
    assert np.isnan(none['frequency'])
    assert np.isnan(none['confidence'])
    assert found['ece'] == pytest.approx((4 * 0.15 + 2 * 0.3) / 6, abs=3e-3)
    assert found['brier'] == pytest.approx((0.9**2 + 3 * 0.1**2 + 2 * 0.3**2) / 6, abs=3e-3)


def test_histogram_gives_the_scores_of_single_pixels():
    logits, truth = drawn()
    probability = expit(logits.astype(np.float64))
    found = calibration(count_logits(logits, truth))
    assert found['brier'] == pytest.approx(np.mean((probability - truth) ** 2), abs=1e-4)
    likelihood = np.where(truth, probability, 1 - probability)
    assert found['nll'] == pytest.approx(-np.log(likelihood).mean(), abs=1e-4)
    assert sum(each['count'] for each in found['bins']) == len(logits)


def test_a_perfectly_calibrated_predictor_has_no_error():
    found = calibration(count_logits(*drawn()))
    assert found['ece'] < 0.005
    assert all(abs(each['confidence'] - each['frequency']) < 0.02 for each in found['bins'])


def test_an_overconfident_predictor_is_found_out():
    found = calibration(count_logits(*drawn(scale=3)))
    assert found['ece'] > 0.08
    assert found['bins'][0]['frequency'] > found['bins'][0]['confidence']
    assert found['bins'][-1]['frequency'] < found['bins'][-1]['confidence']


@pytest.mark.parametrize('scale', [0.5, 1, 3])
def test_the_temperature_undoes_a_scaling_of_the_logits(scale):
    pixels = count_logits(*drawn(scale))
    assert fit_temperature(pixels) == pytest.approx(scale, rel=0.02)
    assert calibration(pixels, temperature=fit_temperature(pixels))['ece'] < 0.005


def test_temperature_needs_both_kinds_of_pixel():
    logits, truth = drawn(count=100)
    assert np.isnan(fit_temperature(count_logits(logits[~truth], truth[~truth])))
    assert np.isnan(fit_temperature(no_logits()))
    assert np.isnan(calibration(no_logits())['ece'])


def test_temperature_is_bounded_where_the_classes_part():
    assert fit_temperature(count_logits(np.array([-1.0, 1.0]), np.array([False, True]))) == pytest.approx(
        0.05, rel=0.01
    )


def test_histograms_add_up_and_extremes_are_kept():
    logits, truth = drawn(count=100)
    both = count_logits(logits[:40], truth[:40]) + count_logits(logits[40:], truth[40:])
    np.testing.assert_array_equal(both.foreground, count_logits(logits, truth).foreground)
    ends = count_logits(np.array([-1e30, 1e30, -np.inf]), np.array([False, True, False]))
    assert (ends.background[0], ends.foreground[-1], ends.total.sum()) == (2, 1, 3)
    with pytest.raises(ValueError, match='NaN'):
        count_logits(np.array([np.nan]), np.array([True]))
