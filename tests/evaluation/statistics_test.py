"""Paired statistics against SciPy and by hand, and what is said of them."""

import numpy as np
import pytest
from scipy import stats

from liver_jax.evaluation.statistics import (
    compare_paired,
    interval_of_mean,
    interval_over_cases,
    rank_biserial,
    wilcoxon_p,
)

NAMES = ('U-Net', 'ResU-Net')


def paired(differences, base=0.5):
    """The statistics of a network that is better by these differences, patient by patient."""
    first = {f'p{number:02}': base for number in range(len(differences))}
    second = {patient: base + by for patient, by in zip(first, differences, strict=True)}
    return compare_paired(first, second, NAMES, 'Dice per patient', seed=0)


@pytest.mark.parametrize('count', [8, 30])
def test_interval_is_that_of_scipy(count):
    values = np.random.default_rng(count).exponential(0.1, count)
    expected = stats.bootstrap((values,), np.mean, n_resamples=20_000, method='BCa', rng=1).confidence_interval
    assert interval_of_mean(values, 0) == pytest.approx(tuple(expected), abs=0.03 * np.ptp(values) / count**0.5)
    assert interval_of_mean(values, 0) == interval_of_mean(values, 0)


def test_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    intervals = [interval_of_mean(rng.normal(0.1, 1, 25), seed) for seed in range(200)]
    assert 0.89 <= np.mean([low <= 0.1 <= high for low, high in intervals]) <= 0.99


def test_patients_with_more_scans_weigh_more_by_hand():
    # One patient with three scans of Dice 1, one with a single scan of Dice 0: the mean over cases is 3/4. Draws of two
    # patients have 1 (both the first), 3/4 or 0, with 1/4, 1/2 and 1/4: the interval of their means ends at 0 and 1,
    # and a mean of patients' means would lie at 1/2.
    sums, counts = np.array([[3.0, 0.0]]), np.array([[3.0, 1.0]])
    assert interval_over_cases(sums, counts, 0) == (0, 1)
    # Nine such pairs: weighted the interval holds 3/4, and lies above 1/2 for the most part.
    low, high = interval_over_cases(np.tile(sums, 9), np.tile(counts, 9), 0)
    unweighted = interval_of_mean(np.tile([1.0, 0.0], 9), 0)
    assert low < 0.75 < high
    assert (low, high) > unweighted
    # A draw of 18 has 3k / (3k + 18 - k) with k of the first kind, k binomial: its 2.5 and 97.5 % quantiles by k.
    ends = [3 * k / (18 + 2 * k) for k in (5, 13)]
    assert (low, high) == pytest.approx(ends, abs=0.03)
    assert interval_over_cases(np.array([[0.5, 1.0]]), np.array([[1.0, 2.0]]), 0) == (0.5, 0.5)
    # A patient whose scans have no score has no part.
    assert interval_over_cases(np.array([[3.0, 0.0, 0]]), np.array([[3.0, 1.0, 0]]), 0) == (0, 1)


def test_runs_are_averaged_within_each_draw():
    sums, counts = np.array([[2.0, 0.4], [1.0, 0.2]]), np.array([[2.0, 1.0], [2.0, 1.0]])
    both = interval_over_cases(sums, counts, 0)
    assert both == pytest.approx(interval_over_cases(sums.mean(0)[None], counts[:1], 0))


def test_rank_biserial_by_hand():
    # Ranks of |.1|, |.2|, |.3| are 1, 2, 3; the negative one has rank 1: (5 - 1) / 6.
    assert rank_biserial(np.array([-0.1, 0.2, 0.3])) == pytest.approx(4 / 6)
    # With a zero, which has rank 1, they are 2, 3, 4: (7 - 2) / 10.
    assert rank_biserial(np.array([-0.1, 0.2, 0.3, 0.0])) == pytest.approx(5 / 10)
    # One of five that differs: four zeros share the ranks 1 to 4, the fifth has 5 of 15 in all.
    assert rank_biserial(np.array([0, 0, -0.1, 0, 0])) == pytest.approx(-5 / 15)
    assert rank_biserial(np.zeros(3)) == 0
    assert np.isnan(rank_biserial(np.zeros(0)))


def test_wilcoxon_by_hand():
    assert wilcoxon_p(np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])) == pytest.approx(2 / 2**6)
    assert wilcoxon_p(np.array([0.1, 0.1, 0.1, 0.1, 0.1, 0.1])) == pytest.approx(2 / 2**6)  # ties, still exact
    assert wilcoxon_p(np.zeros(5)) == 1
    assert np.isnan(wilcoxon_p(np.zeros(0)))


def test_a_clear_difference_is_called_one():
    result = paired(np.linspace(0.05, 0.15, 10))
    assert result['verdict'].startswith('ResU-Net is better: significant difference: ResU-Net minus U-Net +0.1000')
    assert result['mean'] == pytest.approx(0.1)
    assert 0.05 < result['low'] < 0.1 < result['high'] < 0.15
    assert (result['p_value'], result['effect_size']) == (pytest.approx(2 / 2**10), 1)
    assert result['cohens_dz'] == pytest.approx(0.1 / np.linspace(0.05, 0.15, 10).std(ddof=1))
    assert paired(-np.linspace(0.05, 0.15, 10))['verdict'].startswith('U-Net is better')


def test_noise_is_called_no_significant_difference():
    result = paired(np.random.default_rng(0).normal(0, 0.1, 12))
    assert result['verdict'].startswith('no significant difference: ')
    assert 'cannot' not in result['verdict']
    assert result['low'] < 0 < result['high']


def test_five_patients_cannot_show_a_difference_and_are_told_so():
    result = paired([0.1, 0.2, 0.3, 0.4, 0.5])
    assert result['p_value'] == pytest.approx(2 / 2**5)
    assert result['verdict'].startswith('no significant difference: ')
    assert 'with 5 patients that differ this test cannot come below p = 0.0625' in result['verdict']


def test_equal_networks_differ_by_nothing():
    result = paired(np.zeros(8))
    assert result['verdict'].startswith('no significant difference: ')
    assert 'cannot' not in result['verdict']
    assert (result['low'], result['high'], result['p_value'], result['effect_size']) == (0, 0, 1, 0)
    assert result['informative'] == 0


@pytest.mark.parametrize('count', [0, 1])
def test_one_patient_says_nothing(count):
    result = paired([0.2] * count)
    assert result['verdict'].startswith(f'no statement: {count} patient(s)')
    assert np.isnan(result['low'])
    assert np.isnan(result['cohens_dz'])


def test_a_patient_undefined_in_one_network_is_left_out_and_named():
    result = compare_paired({'a': 0.5, 'b': np.nan, 'c': 0.1}, {'a': 0.75, 'b': 0.0, 'c': 0.2}, NAMES, 'Dice', seed=0)
    assert (result['patients'], result['left_out'], list(result['differences'])) == (2, ['b'], ['a', 'c'])
    with pytest.raises(ValueError, match=r"\['b'\] have a score of one network only"):
        compare_paired({'a': 1.0}, {'a': 1.0, 'b': 1.0}, NAMES, 'Dice', seed=0)


def test_a_mean_that_the_test_does_not_bear_out_is_doubted():
    result = paired([*np.linspace(0.02, 0.03, 13), -0.9])
    assert result['p_value'] < 0.05
    assert result['mean'] < 0 < result['effect_size']
    assert result['verdict'].startswith('ResU-Net is better: significant difference: ')
    assert result['verdict'].endswith('but the interval of the mean includes zero')
