"""The train step: equal on any number of devices, whole or in parts; learns; its precision and its norms."""

import dataclasses
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.extend.core import jaxprs_in_params

from liver_jax.data.augment import to_unit
from liver_jax.data.store import SliceStore
from liver_jax.metrics.losses import binary_cross_entropy, dice
from liver_jax.models import build_model
from liver_jax.runtime.mesh import make_mesh, put_batch
from liver_jax.training.recipe import Recipe, make_recipe
from liver_jax.training.state import init_state, state_shape
from liver_jax.training.step import l2_norm, make_train_step, train_step

SGD = optax.sgd(1.0)


@pytest.fixture(scope='module')
def batch(config):
    store = SliceStore(Path(config.data.store))
    rows = np.arange(8)
    return {'image': np.asarray(to_unit(store.images(rows))), 'mask': np.asarray(to_unit(store.masks(rows, 'tumor')))}


def recipe(config, optimizer=SGD, loss=binary_cross_entropy, accumulate=1, ema_decay=0.0, **model):
    network = build_model(dataclasses.replace(config.model, **model))
    return Recipe(network, optimizer, optax.constant_schedule(0.1), loss, accumulate, ema_decay)


def run(recipe, batch, devices, steps):
    """The state after some steps on the same batch, and the metrics of each."""
    mesh = make_mesh(devices)
    step, state, rows = make_train_step(recipe, mesh), init_state(recipe, 32, 0, mesh), []
    for _ in range(steps):
        state, metrics = step(state, put_batch(batch, mesh))
        rows.append(jax.device_get(metrics))
    return jax.device_get(state), rows


def assert_close(one, other, atol=1e-5):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol), one, other)


def test_one_step_is_equal_on_one_and_eight_devices(config, batch):
    one, metrics = run(recipe(config, loss=dice), batch, 1, 1)
    eight, metrics_eight = run(recipe(config, loss=dice), batch, 8, 1)
    assert_close(metrics, metrics_eight)
    assert_close(one, eight)


def test_a_batch_is_overfitted(config, batch):
    _, rows = run(recipe(config, optax.adam(1e-2)), batch, 8, 60)
    assert rows[-1]['loss'] < 0.2 * rows[0]['loss']


def test_a_batch_in_parts_is_the_whole_batch_for_group_norm(config, batch):
    whole, metrics = run(recipe(config, loss=dice, norm='group'), batch, 1, 2)
    parts, metrics_of_parts = run(recipe(config, loss=dice, norm='group', accumulate=4), batch, 2, 2)
    assert_close(metrics, metrics_of_parts)
    assert_close(whole, parts)


def test_batch_norm_sees_the_parts_one_after_the_other(config, batch):
    """As two forward passes over every other row, each moving the statistics once."""
    parts, _ = run(recipe(config, accumulate=2), batch, 1, 1)
    model, state = build_model(config.model), init_state(recipe(config), 32, 0, make_mesh(1))
    stats = state.batch_stats
    for start in (0, 1):
        variables = {'params': state.params, 'batch_stats': stats}
        stats = model.apply(variables, batch['image'][start::2], train=True, mutable=['batch_stats'])[1]['batch_stats']
    assert_close(parts.batch_stats, stats)


@pytest.mark.parametrize(('accumulate', 'rows'), [(1, 4), (2, 2)])
def test_every_part_is_spread_over_all_devices_without_moving(config, batch, accumulate, rows):
    mesh, plan = make_mesh(2), recipe(config, norm='group', accumulate=accumulate)
    program = make_train_step(plan, mesh).lower(init_state(plan, 32, 0, mesh), put_batch(batch, mesh)).compile()
    text = program.as_text()
    assert set(re.findall(r'f32\[(\d+),32,32,8\]\S* convolution\(', text)) == {str(rows)}
    assert not re.search(r'(all-gather|all-to-all|collective-permute)\(', text)


def test_parts_take_less_memory(config, batch):
    def memory(accumulate):
        mesh, plan = make_mesh(1), recipe(config, norm='group', accumulate=accumulate)
        program = make_train_step(plan, mesh).lower(init_state(plan, 32, 0, mesh), put_batch(batch, mesh)).compile()
        return program.memory_analysis().temp_size_in_bytes

    assert memory(4) < 0.5 * memory(1)


def test_norms_are_those_before_clipping_and_of_the_update(config, batch):
    clipped = optax.chain(optax.clip_by_global_norm(1e-3), optax.sgd(0.5))
    before = jax.device_get(init_state(recipe(config), 32, 0, make_mesh(1)).params)
    plain, [free] = run(recipe(config), batch, 1, 1)
    _, [metrics] = run(recipe(config, clipped), batch, 1, 1)
    gradient = np.sqrt(
        sum(np.sum((a - b) ** 2) for a, b in zip(*map(jax.tree.leaves, (before, plain.params)), strict=True))
    )
    assert free['gradient_norm'] == pytest.approx(gradient, rel=1e-4)
    assert free['update_norm'] == pytest.approx(gradient, rel=1e-4)  # SGD of rate 1
    assert metrics['gradient_norm'] == pytest.approx(gradient, rel=1e-4)
    assert metrics['update_norm'] == pytest.approx(0.5e-3, rel=1e-4)


def test_a_gradient_that_is_no_number_is_told(config, batch):
    poisoned = {**batch, 'image': batch['image'].copy()}
    poisoned['image'][3, 5, 5] = np.nan
    _, [metrics] = run(recipe(config), poisoned, 8, 1)
    assert np.isnan(metrics['gradient_norm'])
    assert np.isnan(metrics['loss'])


@pytest.mark.parametrize('name', ['unet', 'resunet'])
def test_a_step_in_bfloat16_keeps_all_but_activations_in_float32(config, batch, name):
    """State, metrics, statistics of norms, logits and loss are float32; convolutions are bfloat16, forth and back."""
    values = dataclasses.replace(config, model=dataclasses.replace(config.model, name=name, dtype='bfloat16'))
    plan = make_recipe(values, 10)
    plan = dataclasses.replace(plan, ema_decay=0.9)
    state = state_shape(plan, 32)
    after, metrics = jax.eval_shape(lambda *both: train_step(plan, *both), state, batch)
    kinds = {leaf.dtype for leaf in jax.tree.leaves((state, after, metrics))}
    assert kinds == {jnp.dtype('float32'), jnp.dtype('int32')}  # int32: the step and Adam's count
    operations = list(walk(jax.make_jaxpr(lambda *both: train_step(plan, *both))(state, batch).jaxpr))
    inputs = {
        name: {str(e.invars[0].aval.dtype) for e in operations if e.primitive.name == name}
        for name in names(operations)
    }
    assert inputs['conv_general_dilated'] == {'bfloat16'}
    assert inputs['rsqrt'] == {'float32'}  # of the norms' variances
    assert inputs['log1p'] == {'float32'}  # of the loss


def test_no_operation_of_a_step_lacks_a_deterministic_kernel_on_gpus(config, batch):
    """Scatters of all kinds; the gradient of `nn.max_pool` would be one."""
    for name, norm in (('unet', 'batch'), ('resunet', 'group')):
        for upsample in ('transpose', 'bilinear'):
            plan = recipe(config, optax.adam(0.1), name=name, norm=norm, upsample=upsample)
            state = state_shape(plan, 32)
            step = jax.make_jaxpr(lambda *both, plan=plan: train_step(plan, *both))(state, batch)
            assert not [name for name in names(walk(step.jaxpr)) if 'scatter' in name]


def walk(jaxpr):
    """All operations, those within operations too."""
    for operation in jaxpr.eqns:
        yield operation
        for inner in jaxprs_in_params(operation.params):
            yield from walk(inner)


def names(operations):
    return {operation.primitive.name for operation in operations}


@pytest.mark.parametrize(
    ('one', 'other', 'norm'),
    [
        ([3.0, 0.0], 4.0, 5.0),
        ([3e30, 0.0], 4e30, 5e30),  # their squares are past all floats
        ([3e-30, 0.0], 4e-30, 5e-30),  # and these below them
        ([0.0, 0.0], 0.0, 0.0),
        ([np.inf, 1.0], 1.0, np.inf),
        ([np.nan, 1.0], 1.0, np.nan),
        ([3.4e38, 3.4e38], 3.4e38, np.inf),
    ],
)
def test_a_norm_is_infinite_only_if_it_is(one, other, norm):
    found = l2_norm({'one': jnp.array(one), 'other': jnp.array(other)})
    np.testing.assert_allclose(found, np.float32(norm), rtol=1e-6)
