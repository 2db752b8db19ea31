"""The state: its start depends on the seed alone; the moving average by hand; what is scored and what is not."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from liver_jax.runtime.mesh import make_mesh
from liver_jax.training.recipe import make_recipe
from liver_jax.training.state import init_state, join_state, update_average


def recipe(config, **optim):
    return make_recipe(dataclasses.replace(config, optim=dataclasses.replace(config.optim, **optim)), 10)


def test_initial_parameters_depend_on_the_seed_alone(config):
    one = init_state(recipe(config), 32, 3, make_mesh(1))
    eight = init_state(recipe(config), 32, 3, make_mesh(8))
    other = init_state(recipe(config, ema_decay=0.9, name='sgd'), 32, 4, make_mesh(8))
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(one), jax.device_get(eight))
    kernel = lambda state: np.asarray(state.params['bridge']['Conv_0']['kernel'])  # noqa: E731
    assert np.abs(kernel(eight) - kernel(other)).max() > 0.01


@pytest.mark.parametrize(
    ('step', 'expected'),
    [
        (0, 0.1 * 1 + 0.9 * 11),  # (1 + 0) / (10 + 0)
        (8, 0.5 * 1 + 0.5 * 11),  # 9 / 18
        (1000, 0.9 * 1 + 0.1 * 11),  # the decay itself
    ],
)
def test_the_decay_of_the_average_rises_to_its_value(step, expected):
    old = {'params': {'w': jnp.array([1.0])}, 'batch_stats': {'mean': jnp.array([1.0])}}
    new = update_average(old, {'w': jnp.array([11.0])}, {'mean': jnp.array([11.0])}, jnp.int32(step), 0.9)
    assert new['params']['w'].tolist() == pytest.approx([expected])
    assert new['batch_stats']['mean'].tolist() == pytest.approx([expected])
    assert new['params']['w'].dtype == jnp.float32


def test_without_a_decay_there_is_no_average():
    assert update_average(None, {}, {}, jnp.int32(3), 0.0) is None


@pytest.mark.parametrize('decay', [0.0, 0.9])
def test_a_state_is_whole_again_from_its_two_parts(config, decay):
    state = init_state(recipe(config, ema_decay=decay), 32, 0, make_mesh(1))
    state = dataclasses.replace(state, params=jax.tree.map(lambda leaf: leaf + 1, state.params))
    again = join_state(state.step, state.variables, state.unscored)
    assert jax.tree.structure(again) == jax.tree.structure(state)
    jax.tree.map(np.testing.assert_array_equal, again, state)
    assert (state.variables['params'] is state.params) == (decay == 0)
