"""Calibration of foreground probabilities: reliability, ECE, Brier score, temperature, from a histogram of logits.

A test set has too many pixels to keep, and all of this needs no more than how many foreground and background pixels
lie at which logit. The bins are so narrow (0.02) that the scores differ from those of single pixels by less than 1e-4.

Reliability diagram and expected calibration error (ECE): Naeini et al., AAAI 2015; Brier score: Brier 1950;
temperature scaling: Guo et al., ICML 2017.
"""

import dataclasses
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit

LIMIT, STEP = 20.0, 0.02  # logits beyond +-20 (probabilities of 2e-9) are counted at the ends
EDGES = np.arange(round(2 * LIMIT / STEP) + 1) * STEP - LIMIT
CENTRES = (EDGES[:-1] + EDGES[1:]) / 2
TEMPERATURES = (0.05, 20.0)
CALIBRATION_RULE = (
    'every pixel counts once, so background far from the target rules ECE and Brier score: where the target is tumour, '
    'read in_liver, of the pixels in the liver of the reference alone; '
    'a bin without pixels has no frequency'
)


@dataclasses.dataclass(frozen=True)
class LogitHistogram:
    """Pixels by their logit: `background` and `foreground`, int64 [bins], the bins between `EDGES`."""

    background: np.ndarray
    foreground: np.ndarray

    def __add__(self, other: 'LogitHistogram') -> 'LogitHistogram':
        """The pixels of both."""
        return LogitHistogram(self.background + other.background, self.foreground + other.foreground)

    @property
    def total(self) -> np.ndarray:
        """All pixels, int64 [bins]."""
        return self.background + self.foreground


def count_logits(logits: np.ndarray, reference: np.ndarray) -> LogitHistogram:
    """The histogram of logits and their boolean reference, of one shape; ValueError where a logit is NaN."""
    if np.isnan(logits).any():
        raise ValueError('NaN logits; expected finite ones')
    places = np.clip(np.floor((logits.astype(np.float64) + LIMIT) / STEP), 0, len(CENTRES) - 1).astype(np.int32)
    counts = (np.bincount(places[where], minlength=len(CENTRES)) for where in (~reference, reference))
    return LogitHistogram(*counts)


def no_logits() -> LogitHistogram:
    """The histogram of no pixel."""
    return LogitHistogram(np.zeros(len(CENTRES), np.int64), np.zeros(len(CENTRES), np.int64))


def calibration(pixels: LogitHistogram, bins: int = 10, temperature: float = 1.0) -> dict[str, Any]:
    """Reliability of the probabilities sigmoid(logit / temperature); NaN where there is no pixel.

    `bins`, each of the same width in probability: `confidence` (mean probability), `frequency` (part that is
    foreground), `count`; `ece`: mean of |frequency - confidence| over pixels; `brier`: mean of
    (probability - foreground)^2; `nll`: mean negative log-likelihood, in nats.
    """
    probability = expit(CENTRES / temperature)
    place = np.minimum((probability * bins).astype(int), bins - 1)
    count, foreground, confidence = (
        np.bincount(place, weights, bins) for weights in (pixels.total, pixels.foreground, pixels.total * probability)
    )
    squares = pixels.foreground * (1 - probability) ** 2 + pixels.background * probability**2
    gaps = np.abs(foreground - confidence)  # already weighted by their pixels
    total = count.sum()
    return {
        'bins': [
            {'confidence': _divide(c, n), 'frequency': _divide(f, n), 'count': int(n)}
            for c, f, n in zip(confidence, foreground, count, strict=True)
        ],
        'ece': _divide(gaps.sum(), total),
        'brier': _divide(squares.sum(), total),
        'nll': _divide(_negative_log_likelihood(pixels, temperature), total),
    }


def fit_temperature(pixels: LogitHistogram) -> float:
    """The temperature in [0.05, 20] with the least negative log-likelihood; NaN without pixels of both kinds.

    The likelihood has one maximum in 1 / temperature, since that is logistic regression without an intercept.
    """
    if not (pixels.background.any() and pixels.foreground.any()):
        return float('nan')
    low, high = np.log(TEMPERATURES)
    found = minimize_scalar(
        lambda log: _negative_log_likelihood(pixels, np.exp(log)),
        bounds=(low, high),
        method='bounded',
        options={'xatol': 1e-5},
    )
    return float(np.exp(found.x))


def _negative_log_likelihood(pixels: LogitHistogram, temperature: float) -> float:
    logits = CENTRES / temperature
    return float(pixels.foreground @ np.logaddexp(0, -logits) + pixels.background @ np.logaddexp(0, logits))


def _divide(part: float, whole: float) -> float:
    return float(part / whole) if whole else float('nan')
