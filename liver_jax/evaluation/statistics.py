"""What a difference between two networks is worth: paired per patient, with intervals, a test, and plain words.

The unit is the patient: slices and cases of one patient are no independent observations, and neither are several
seeds of one network, which are averaged first.

Intervals: bias-corrected and accelerated bootstrap (BCa; Efron, JASA 1987) over patients. Test: Wilcoxon's signed-rank
test, two-sided, of the patients that differ. Effect size: matched-pairs rank-biserial correlation (Kerby 2014), -1 to
1, with the ranks of Pratt (JASA 1959), so that patients without a difference count as such; and Cohen's d_z.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import stats

CONFIDENCE, SIGNIFICANCE, RESAMPLES = 0.95, 0.05, 9999
ROUNDING = 1e-12


def compare_paired(
    first: Mapping[str, float], second: Mapping[str, float], names: tuple[str, str], metric: str, seed: int
) -> dict[str, Any]:
    """Second minus first of a score by patient, as plain data.

    Args:
        first: Score of the first network by patient; NaN where undefined.
        second: The same of the second network, of the same patients.
        names: What the two are called in the verdict.
        metric: What the score is, in words.
        seed: Of the resampling.

    Returns:
        `metric`, `differences` (by patient; those undefined in either are left out and named in `left_out`), `mean`
        with its 95 % interval `low` to `high`, `p_value`, `effect_size` (rank-biserial), `cohens_dz`, `patients`
        (their number), `informative` (of how many the difference is not zero), `verdict` (words). NaN where there are
        too few patients.
    """
    if first.keys() != second.keys():
        raise ValueError(f'patients {sorted(first.keys() ^ second.keys())} have a score of one network only')
    both = {patient: second[patient] - first[patient] for patient in sorted(first)}
    differences = {patient: float(value) for patient, value in both.items() if not np.isnan(value)}
    values = np.array(list(differences.values()))
    low, high = interval_of_mean(values, seed)
    result = {
        'metric': metric,
        'of': f'{names[1]} minus {names[0]}',
        'patients': len(values),
        'informative': int(np.count_nonzero(values)),
        'left_out': [patient for patient in both if patient not in differences],
        'differences': differences,
        'mean': float(values.mean()) if len(values) else float('nan'),
        'low': low,
        'high': high,
        'p_value': wilcoxon_p(values),
        'effect_size': rank_biserial(values),
        'cohens_dz': float(values.mean() / values.std(ddof=1)) if _varies(values) else float('nan'),
    }
    return {**result, 'verdict': _verdict(result, names)}


def interval_of_mean(values: np.ndarray, seed: int) -> tuple[float, float]:
    """The 95 % BCa bootstrap interval of the mean of values [patients]; NaN for fewer than two.

    Equal values give an interval of no width.
    """
    return interval_over_cases(values[None], np.ones((1, len(values))), seed)


def interval_over_cases(sums: np.ndarray, counts: np.ndarray, seed: int) -> tuple[float, float]:
    """The same of a mean over cases, of which patients have different numbers: whole patients are drawn.

    Args:
        sums: [runs, patients], the scores of a patient's cases added up; runs are averaged after the mean over cases.
        counts: Of how many cases these are, of the same shape; patients without any in all runs have no part.
        seed: Of the resampling.
    """
    there = counts.any(axis=0)
    sums, counts = sums[:, there], counts[:, there]
    patients = sums.shape[1]
    if patients < 2:
        return float('nan'), float('nan')
    mean = _mean_over_cases(sums.sum(1), counts.sum(1))
    without = _mean_over_cases(sums.sum(1)[:, None] - sums, counts.sum(1)[:, None] - counts)
    influence = without.mean() - without  # the jackknife's
    if not np.any(np.abs(influence) > 1e-15):
        return float(mean), float(mean)
    chosen = np.random.default_rng(seed).integers(0, patients, (RESAMPLES, patients))
    means = np.sort(_mean_over_cases(sums[:, chosen].sum(2), counts[:, chosen].sum(2)))
    means = means[~np.isnan(means)]
    # Half of the ties count as below, as in SciPy; what differs by rounding alone is a tie.
    low, high = np.searchsorted(means, (mean - ROUNDING, mean + ROUNDING))
    bias = stats.norm.ppf((low + high) / (2 * len(means)))
    acceleration = np.sum(influence**3) / (6 * np.sum(influence**2) ** 1.5)
    quantiles = []
    for part in ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2):
        z = bias + stats.norm.ppf(part)
        quantiles.append(stats.norm.cdf(bias + z / (1 - acceleration * z)))
    first, last = np.quantile(means, quantiles)
    return float(first), float(last)


def wilcoxon_p(differences: np.ndarray) -> float:
    """Two-sided p of Wilcoxon's signed-rank test, zeros dropped; 1 where nothing but zeros is left, NaN of nothing."""
    values = differences[differences != 0]
    if not len(differences) or not len(values):
        return 1.0 if len(differences) else float('nan')
    return float(stats.wilcoxon(values).pvalue)


def rank_biserial(differences: np.ndarray) -> float:
    """(W+ - W-) / (W+ + W- + W0) of the signed ranks, W0 those of the zeros (Pratt); NaN of nothing."""
    if not len(differences):
        return float('nan')
    ranks = stats.rankdata(np.abs(differences))
    return float((ranks @ np.sign(differences)) / ranks.sum())


def _mean_over_cases(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Mean over the cases of each run, then over the runs that have any; [runs, ...] to [...]."""
    means = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
    runs = (counts > 0).sum(0)
    return np.divide(np.nansum(means, axis=0), runs, out=np.full(np.shape(runs), np.nan), where=runs > 0)


def _varies(values: np.ndarray) -> bool:
    return len(values) > 1 and bool(np.ptp(values) > 0)


def _verdict(result: Mapping[str, Any], names: tuple[str, str]) -> str:
    """The result in a sentence or two."""
    patients, informative, p = result['patients'], result['informative'], result['p_value']
    if patients < 2:
        return f'no statement: {patients} patient(s) can be compared, a difference needs several'
    difference = f'{result["of"]} {result["mean"]:+.4f} (95 % interval {result["low"]:+.4f} to {result["high"]:+.4f})'
    about = f'{difference}, Wilcoxon p = {p:.3g}, {patients} patients'
    least = 2.0 ** (1 - informative)
    if p >= SIGNIFICANCE and informative > 0 and least >= SIGNIFICANCE:
        return (
            f'no significant difference: {about}; with {informative} patients that differ this test cannot come below '
            f'p = {least:.3g}, whatever the scores are'
        )
    if p >= SIGNIFICANCE:
        return f'no significant difference: {about}'
    better = names[1] if result['effect_size'] > 0 else names[0]
    doubt = '; but the interval of the mean includes zero' if result['low'] <= 0 <= result['high'] else ''
    return f'{better} is better: significant difference: {about}{doubt}'
