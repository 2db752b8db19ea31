"""Learning rates, updates, decay and clipping by hand."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from liver_jax.training.optim import make_optimizer, make_schedule

PARAMS = {'kernel': jnp.full((2, 2), 2.0), 'scale': jnp.full(2, 2.0)}
GRADIENTS = {'kernel': jnp.full((2, 2), 3.0), 'scale': jnp.full(2, 4.0)}


def schedule(config, **changes):
    return make_schedule(dataclasses.replace(config.optim, learning_rate=1.0, **changes), 10, 5)


def updates(config, steps=1, gradients=GRADIENTS, **changes):
    """Kernel and scale of the last of some updates with the same gradient and rate 0.1."""
    optimizer = make_optimizer(dataclasses.replace(config.optim, **changes), optax.constant_schedule(0.1))
    state = optimizer.init(PARAMS)
    for _ in range(steps):
        update, state = optimizer.update(gradients, state, PARAMS)
    return float(update['kernel'][0, 0]), float(update['scale'][0])


def test_warm_up_rises_linearly_to_the_peak(config):
    for name in ('constant', 'cosine', 'polynomial'):
        rates = [float(schedule(config, schedule=name)(step)) for step in (0, 5, 10)]
        assert rates == pytest.approx([1 / 11, 6 / 11, 1.0], abs=1e-6)


def test_cosine_falls_to_zero_at_the_last_epoch(config):
    rates = [float(schedule(config, warmup_epochs=0.0)(step)) for step in (0, 25, 50)]
    assert rates == pytest.approx([1.0, 0.5, 0.0], abs=1e-6)


def test_polynomial_falls_to_zero_at_the_last_epoch(config):
    """40 steps after a warm-up of 10; a quarter and three quarters of them are left."""
    squared = schedule(config, schedule='polynomial', power=2.0)
    assert [float(squared(step)) for step in (10, 20, 40, 50)] == pytest.approx([1, 9 / 16, 1 / 16, 0], abs=1e-6)


def test_constant_stays(config):
    rates = [float(schedule(config, schedule='constant')(step)) for step in (10, 30, 50)]
    np.testing.assert_allclose(rates, 1.0)


def test_a_run_shorter_than_its_warm_up_still_learns(config):
    for name in ('constant', 'cosine', 'polynomial'):
        short = make_schedule(dataclasses.replace(config.optim, warmup_epochs=9.0, schedule=name), 1, 1)
        assert float(short(0)) > 0


def test_adam_starts_with_steps_of_the_rate(config):
    assert updates(config) == pytest.approx((-0.1, -0.1), abs=1e-6)


def test_adamw_decays_kernels_alone_beside_the_step(config):
    kernel, scale = updates(config, name='adamw', weight_decay=0.5)
    assert kernel == pytest.approx(-0.1 * (1 + 0.5 * 2), abs=1e-6)
    assert scale == pytest.approx(-0.1, abs=1e-6)


def test_sgd_looks_ahead(config):
    """Nesterov: the velocity v = m v + g moves by g + m v; 3, then 3 + .5 (4.5), then …"""
    assert updates(config, name='sgd', momentum=0.5)[0] == pytest.approx(-0.1 * (3 + 0.5 * 3), abs=1e-6)
    assert updates(config, 2, name='sgd', momentum=0.5)[0] == pytest.approx(-0.1 * (3 + 0.5 * 4.5), abs=1e-6)


def test_sgd_decays_kernels_alone_through_the_gradient(config):
    kernel, scale = updates(config, name='sgd', momentum=0.5, weight_decay=0.5)
    assert kernel == pytest.approx(-0.1 * 1.5 * (3 + 0.5 * 2), abs=1e-6)
    assert scale == pytest.approx(-0.1 * 1.5 * 4, abs=1e-6)


@pytest.mark.parametrize('clip_norm', [1.0, 100.0])
def test_the_gradient_is_cut_to_its_global_norm(config, clip_norm):
    """Four times 3 and twice 4: a norm of the root of 68."""
    kernel, scale = updates(config, name='sgd', momentum=0.0, clip_norm=clip_norm)
    shrunk = min(1, clip_norm / 68**0.5)
    assert (kernel, scale) == pytest.approx((-0.1 * 3 * shrunk, -0.1 * 4 * shrunk), abs=1e-6)


def test_the_gradient_is_cut_before_weights_decay(config):
    kernel, scale = updates(config, name='sgd', momentum=0.0, weight_decay=0.5, clip_norm=1.0)
    assert kernel == pytest.approx(-0.1 * (3 / 68**0.5 + 0.5 * 2), abs=1e-6)
    assert scale == pytest.approx(-0.1 * 4 / 68**0.5, abs=1e-6)
