"""The random numbers of augmentation, drawn on the host for a whole batch; `augment` applies them on the device.

No JAX here: grain's workers import this module.
"""

import numpy as np

from liver_jax.config import AugmentConfig

Draws = dict[str, np.ndarray]


def draw(config: AugmentConfig, rng: np.random.Generator, batch: int) -> Draws:
    """One set of draws per slice, each an array whose first axis is the batch.

    flip {0, 1}; angle in radians; scale; shift [2] (rows, columns) and elastic [grid, grid, 2] as parts of the side;
    brightness; contrast; gamma; noise_std; noise_seed. Where a transform is not applied its value is the identity.
    """
    grid = config.elastic_grid
    angle = np.deg2rad(config.rotate_degrees)

    def applied(probability: float, values: np.ndarray, identity: float) -> np.ndarray:
        chosen = rng.random(batch) < probability
        return np.where(chosen.reshape(-1, *[1] * (values.ndim - 1)), values, identity).astype(np.float32)

    def log_uniform(low: float, high: float) -> np.ndarray:
        return np.exp(rng.uniform(np.log(low), np.log(high), batch))

    shift, delta = config.shift_fraction, config.brightness_delta
    return {
        'flip': applied(config.flip, np.ones(batch), 0),
        'angle': applied(config.rotate, rng.uniform(-angle, angle, batch), 0),
        'scale': applied(config.scale, log_uniform(*config.scale_range), 1),
        'shift': applied(config.shift, rng.uniform(-shift, shift, (batch, 2)), 0),
        'elastic': applied(config.elastic, config.elastic_fraction * rng.standard_normal((batch, grid, grid, 2)), 0),
        'brightness': applied(config.brightness, rng.uniform(-delta, delta, batch), 0),
        'contrast': applied(config.contrast, log_uniform(*config.contrast_range), 1),
        'gamma': applied(config.gamma, log_uniform(*config.gamma_range), 1),
        'noise_std': applied(config.noise, rng.uniform(0, config.noise_std, batch), 0),
        'noise_seed': rng.integers(0, 2**32, batch, np.uint32),
    }


def identity_draws(batch: int, grid: int = 5) -> Draws:
    """Draws that change nothing."""
    zeros, ones = np.zeros(batch, np.float32), np.ones(batch, np.float32)
    return {
        'flip': zeros,
        'angle': zeros,
        'scale': ones,
        'shift': np.zeros((batch, 2), np.float32),
        'elastic': np.zeros((batch, grid, grid, 2), np.float32),
        'brightness': zeros,
        'contrast': ones,
        'gamma': ones,
        'noise_std': zeros,
        'noise_seed': np.zeros(batch, np.uint32),
    }
