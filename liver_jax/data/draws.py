"""The random numbers of augmentation, drawn on the host for a whole batch; `augment` applies them on the device.

No JAX here: grain's workers import this module.
"""

import math
from functools import lru_cache

import numpy as np

from liver_jax.config import AugmentConfig

Draws = dict[str, np.ndarray]


def draw(config: AugmentConfig, rng: np.random.Generator, batch: int) -> Draws:
    """One set of draws per slice, each an array whose first axis is the batch.

    flip, flip_rows {0, 1}; angle in radians; scale; shift [2] (rows, columns) and elastic [grid, grid, 2] as parts of
    the side; noise_std; noise_seed; blur [2, taps] (see `blur_kernel`); factor; brightness, added after the factor;
    contrast; zoom, the coarse side as part of the side; gamma_inverted and gamma, the exponents; keeps_stats {0, 1}.
    Where a transform is not applied its value is the identity. Ranges about 1 are drawn log-uniformly.
    """
    draws = identity_draws(batch, config.elastic_grid, _blur_radius(config))
    draws |= _numbers(config, rng, batch)
    draws['brightness'] += config.factor_center * (1 - draws['factor'])
    draws['noise_seed'] = rng.integers(0, 2**32, batch, np.uint32)
    draws['keeps_stats'] += config.gamma_keeps_stats
    # The larger ones are drawn only for the slices that get them.
    if config.shift:
        chosen = np.flatnonzero(rng.random(batch, np.float32) < config.shift)
        draws['shift'][chosen] = config.shift_fraction * (2 * rng.random((len(chosen), 2), np.float32) - 1)
    if config.elastic:
        chosen = np.flatnonzero(rng.random(batch, np.float32) < config.elastic)
        shape = (len(chosen), *draws['elastic'].shape[1:])
        draws['elastic'][chosen] = config.elastic_fraction * rng.standard_normal(shape, np.float32)
    if config.blur:
        chosen = np.flatnonzero(rng.random(batch, np.float32) < config.blur)
        low, high = config.blur_range
        sigmas = low + (high - low) * rng.random((len(chosen), 2), np.float32)
        draws['blur'][chosen] = blur_kernel(sigmas, _blur_radius(config))
    return draws


def identity_draws(batch: int, grid: int = 5, blur_radius: int = 3) -> Draws:
    """Draws that change nothing."""
    zeros = ('flip', 'flip_rows', 'angle', 'noise_std', 'brightness', 'keeps_stats')
    ones = ('scale', 'factor', 'contrast', 'zoom', 'gamma_inverted', 'gamma')
    blur = np.zeros((batch, 2, blur_radius + 1), np.float32)
    blur[..., 0] = 1
    return {
        **dict(zip(zeros, np.zeros((len(zeros), batch), np.float32), strict=True)),
        **dict(zip(ones, np.ones((len(ones), batch), np.float32), strict=True)),
        'shift': np.zeros((batch, 2), np.float32),
        'elastic': np.zeros((batch, grid, grid, 2), np.float32),
        'blur': blur,
        'noise_seed': np.zeros(batch, np.uint32),
    }


def blur_kernel(sigmas: np.ndarray, radius: int) -> np.ndarray:
    """Weights [..., radius + 1] of a Gaussian's middle and of the pixels 1, 2, … to either side of it."""
    places = np.arange(radius + 1, dtype=np.float32)
    weights = np.exp(-0.5 * (places / sigmas[..., None]) ** 2)
    return weights / (2 * weights.sum(axis=-1, keepdims=True) - 1)


def blur_sigmas(kernels: np.ndarray) -> np.ndarray:
    """The sigmas of `blur_kernel`; zero where nothing is blurred."""
    ratio = kernels[..., 1] / kernels[..., 0]
    return np.where(ratio > 0, np.sqrt(-0.5 / np.log(np.clip(ratio, 1e-30, 1 - 1e-6))), 0)


def _blur_radius(config: AugmentConfig) -> int:
    """Three of the largest sigma, as in nnU-Net, whether or not slices are blurred: shapes do not depend on that."""
    return math.ceil(3 * config.blur_range[1])


def _numbers(config: AugmentConfig, rng: np.random.Generator, batch: int) -> Draws:
    """The draws of one number per slice, all in a few calls."""
    names, probability, low, span, identity = _ranges(config)
    chance, place = rng.random((2, len(names), batch), np.float32)
    values = low + span * place
    np.exp(values[_FIRST_LOG:], out=values[_FIRST_LOG:])
    return dict(zip(names, np.where(chance < probability, values, identity), strict=True))


_FIRST_LOG = 6  # of the rows below; these and the following are drawn as logarithms


@lru_cache(8)
def _ranges(config: AugmentConfig) -> tuple[tuple[str, ...], np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Names; then as columns: probability, lower end, span, identity."""
    angle, delta = math.radians(config.rotate_degrees), config.brightness_delta
    gammas = _logarithms(config.gamma_range)
    rows: dict[str, tuple[float, tuple[float, float], float]] = {
        'flip': (config.flip, (1, 1), 0),
        'flip_rows': (config.flip_rows, (1, 1), 0),
        'angle': (config.rotate, (-angle, angle), 0),
        'noise_std': (config.noise, (0, config.noise_std), 0),
        'brightness': (config.brightness, (-delta, delta), 0),
        'zoom': (config.coarsen, config.coarsen_range, 1),
        'scale': (config.scale, _logarithms(config.scale_range), 1),
        'factor': (config.factor, _logarithms(config.factor_range), 1),
        'contrast': (config.contrast, _logarithms(config.contrast_range), 1),
        'gamma_inverted': (config.gamma_inverted, gammas, 1),
        'gamma': (config.gamma, gammas, 1),
    }
    table = np.array([(chance, low, high - low, identity) for chance, (low, high), identity in rows.values()])
    probability, low, span, identity = table.astype(np.float32).T[..., None]
    return tuple(rows), probability, low, span, identity


def _logarithms(ends: tuple[float, float]) -> tuple[float, float]:
    return math.log(ends[0]), math.log(ends[1])
