"""The train step: equal on any number of devices, learns, and follows Adam and cross-entropy by hand."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from liver_jax.data.augment import to_unit
from liver_jax.data.store import SliceStore
from liver_jax.models import build_model
from liver_jax.runtime.mesh import make_mesh, put_batch
from liver_jax.training.losses import binary_cross_entropy
from liver_jax.training.state import init_state
from liver_jax.training.step import make_train_step


@pytest.fixture(scope='module')
def batch(config):
    store = SliceStore(Path(config.data.store))
    rows = np.arange(8)
    return {'image': np.asarray(to_unit(store.images(rows))), 'mask': np.asarray(to_unit(store.masks(rows, 'tumor')))}


def run(config, batch, devices, optimizer, steps):
    mesh, model = make_mesh(devices), build_model(config.model)
    step = make_train_step(model, optimizer, optax.constant_schedule(0.1), mesh)
    state, losses = init_state(model, optimizer, 32, 0, mesh), []
    for _ in range(steps):
        state, metrics = step(state, put_batch(batch, mesh))
        losses.append(float(metrics['loss']))
    return jax.device_get(state), losses


def test_one_step_is_equal_on_one_and_eight_devices(config, batch):
    one, loss_one = run(config, batch, 1, optax.sgd(1.0), 1)
    eight, loss_eight = run(config, batch, 8, optax.sgd(1.0), 1)
    assert loss_one == pytest.approx(loss_eight, abs=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), one, eight)


def test_a_batch_is_overfitted(config, batch):
    _, losses = run(config, batch, 8, optax.adam(1e-2), 60)
    assert losses[-1] < 0.2 * losses[0]


def test_initial_parameters_depend_on_the_seed_alone(config):
    model, optimizer = build_model(config.model), optax.sgd(1.0)
    one = init_state(model, optimizer, 32, 3, make_mesh(1))
    eight = init_state(model, optimizer, 32, 3, make_mesh(8))
    other = init_state(model, optimizer, 32, 4, make_mesh(8))
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(one), jax.device_get(eight))
    kernel = lambda state: np.asarray(state.params['bridge']['Conv_0']['kernel'])  # noqa: E731
    assert np.abs(kernel(eight) - kernel(other)).max() > 0.01


def test_cross_entropy_by_hand():
    # p = 1/2 and 3/4 (logit ln 3): masks 1 and 0 give ln 2 and ln 4; a soft mask of 1/2 the mean of ln 4 and ln 4/3.
    logits = jnp.array([0.0, np.log(3), np.log(3)])
    expected = (np.log(2) + np.log(4) + (np.log(4) + np.log(4 / 3)) / 2) / 3
    assert float(binary_cross_entropy(logits, jnp.array([1.0, 0.0, 0.5]))) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize('logit', [-1e4, 1e4])
def test_cross_entropy_of_extreme_logits_is_finite(logit):
    value, slope = jax.value_and_grad(lambda x: binary_cross_entropy(x, jnp.array([0.0, 1.0])))(jnp.full(2, logit))
    assert float(value) == pytest.approx(5e3)
    assert np.isfinite(slope).all()
