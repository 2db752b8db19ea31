"""Shapes, sizes, gradients and precision of both networks."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from liver_jax.models import build_model, describe_model
from liver_jax.models.blocks import ResidualBlock, Upsample, make_norm

NETWORKS = ('unet', 'resunet')


def build(name, **changes):
    fields = {'width': 8, 'depth': 2, 'norm': 'batch', 'upsample': 'transpose', 'dtype': 'float32', 'prior': 0.02}
    fields['remat'] = False
    return build_model(SimpleNamespace(name=name, **(fields | changes)))


def init(model, shape=(2, 32, 32, 1)):
    return jax.jit(lambda key: model.init(key, jnp.zeros(shape), train=False))(jax.random.key(0))


@pytest.mark.parametrize('name', NETWORKS)
@pytest.mark.parametrize('shape', [(2, 32, 32, 1), (1, 24, 44, 3)])
def test_logits_have_the_shape_of_the_image(name, shape):
    model = build(name)
    variables = jax.eval_shape(lambda key: model.init(key, jnp.zeros(shape), train=False), jax.random.key(0))
    logits = jax.eval_shape(lambda v: model.apply(v, jnp.zeros(shape), train=False), variables)
    assert (logits.shape, logits.dtype) == ((*shape[:3], 1), jnp.float32)


@pytest.mark.parametrize('name', NETWORKS)
def test_indivisible_image_is_refused(name):
    with pytest.raises(ValueError, match=r'30x32 is not divisible by 4'):
        jax.eval_shape(lambda key: build(name).init(key, jnp.zeros((1, 30, 32, 1)), train=False), jax.random.key(0))


@pytest.mark.parametrize('name', NETWORKS)
@pytest.mark.parametrize(
    'changes', [{}, {'norm': 'group'}, {'norm': 'instance', 'upsample': 'bilinear'}, {'dtype': 'bfloat16'}], ids=str
)
def test_every_parameter_gets_a_finite_gradient(name, changes):
    model = build(name, **changes)
    variables = init(model)
    image = jax.random.normal(jax.random.key(1), (2, 32, 32, 1))

    @jax.jit
    def gradients(params):
        def loss(params):
            # Away from the zero-initialised scales, through which nothing flows back at the first step.
            params = jax.tree.map(lambda p: p + 0.1, params)
            logits, _ = model.apply({**variables, 'params': params}, image, train=True, mutable=['batch_stats'])
            return jnp.mean(jnp.square(logits - image))

        return jax.grad(loss)(params)

    for path, gradient in jax.tree.leaves_with_path(gradients(variables['params'])):
        name = jax.tree_util.keystr(path)
        assert gradient.dtype == jnp.float32, name
        assert np.isfinite(gradient).all(), name
        assert np.abs(gradient).max() > 0, name


@pytest.mark.parametrize('name', NETWORKS)
def test_bfloat16_keeps_parameters_statistics_and_logits_in_float32(name):
    model = build(name, dtype='bfloat16')
    variables = jax.eval_shape(lambda key: model.init(key, jnp.zeros((1, 32, 32, 1)), train=False), jax.random.key(0))
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype('float32')}
    logits, updated = jax.eval_shape(
        lambda v: model.apply(v, jnp.zeros((1, 32, 32, 1)), train=True, mutable=['batch_stats', 'intermediates']),
        variables,
    )
    assert logits.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(updated['batch_stats'])} == {jnp.dtype('float32')}
    forward = jax.make_jaxpr(lambda v: model.apply(v, jnp.zeros((1, 32, 32, 1)), train=False))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), variables)
    jaxpr = str(forward(zeros))
    convolutions = [line for line in jaxpr.splitlines() if 'conv_general_dilated' in line]
    assert convolutions
    assert all('bf16' in line for line in convolutions)


@pytest.mark.parametrize('name', NETWORKS)
def test_computing_activations_anew_takes_less_memory_and_changes_nothing(name):
    image = jax.random.normal(jax.random.key(1), (4, 32, 32, 1))
    variables = init(build(name))

    def results(remat):
        model = build(name, remat=remat)

        def loss(params):
            logits, updated = model.apply({**variables, 'params': params}, image, train=True, mutable=['batch_stats'])
            return jnp.mean(jnp.square(logits - image)), updated

        # The CPU's compiler removes the barriers that keep it from merging the second computation with the first.
        options = {'xla_disable_hlo_passes': 'cse_barrier_expander'}
        program = jax.jit(jax.value_and_grad(loss, has_aux=True)).lower(variables['params']).compile(options)
        return program(variables['params']), program.memory_analysis().temp_size_in_bytes

    kept, memory = results(remat=False)
    anew, memory_anew = results(remat=True)
    assert memory_anew < 0.6 * memory
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), kept, anew)


def test_max_pool_is_that_of_flax_with_its_gradient():
    from flax import linen as nn

    from liver_jax.models.blocks import max_pool

    rng = np.random.default_rng(0)
    x, slope = (jnp.array(rng.normal(size=shape)) for shape in ((2, 4, 6, 3), (2, 2, 3, 3)))
    ours, back = jax.vjp(max_pool, x)
    theirs, back_theirs = jax.vjp(lambda x: nn.max_pool(x, window_shape=(2, 2), strides=(2, 2)), x)
    np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(back(slope)[0], back_theirs(slope)[0])


def test_parameter_count_by_hand():
    # width 8, depth 1: encoder 1->8->8, bridge 8->16->16, up 16->4*8 (+bias), decoder 16->8->8, logits 8->1 (+bias);
    # each of the six convolutions has a scale and a bias per channel in its normalisation.
    convolutions = 9 * (1 * 8 + 8 * 8 + 8 * 16 + 16 * 16 + 16 * 8 + 8 * 8)
    norms = 2 * (8 + 8 + 16 + 16 + 8 + 8)
    up, logits = 16 * 32 + 32, 8 + 1
    assert describe_model(build('unet', depth=1), 32)['parameters'] == convolutions + norms + up + logits


def test_flops_by_hand():
    # The convolutions of the same network on 32x32: two per multiply-add; padding, norms and ReLU add some percent.
    fine, coarse = 32 * 32, 16 * 16
    exact = 2 * 9 * (fine * (8 + 64 + 128 + 64) + coarse * (128 + 256)) + 2 * coarse * 16 * 32 + 2 * fine * 8
    assert describe_model(build('unet', depth=1), 32)['gflops'] * 1e9 == pytest.approx(exact, rel=0.1)


def test_first_prediction_is_the_prior():
    model = build('unet', prior=0.25)
    variables = init(model)
    logits = model.apply(variables, jnp.zeros((2, 32, 32, 1)), train=False)
    assert jax.nn.sigmoid(logits).mean() == pytest.approx(0.25, abs=1e-3)


def test_residual_block_starts_as_its_shortcut():
    from functools import partial

    from flax import linen as nn

    block = ResidualBlock(8, partial(nn.Conv, use_bias=False), make_norm('batch', jnp.float32, train=False))
    x = jax.random.uniform(jax.random.key(0), (1, 8, 8, 8))
    variables = block.init(jax.random.key(1), x)
    np.testing.assert_allclose(block.apply(variables, x), x, atol=1e-6)


def test_transpose_upsampling_is_the_transposed_convolution():
    from flax import linen as nn

    x = jax.random.normal(jax.random.key(0), (1, 3, 4, 5))
    ours = Upsample(2, 'transpose', jnp.float32)
    variables = ours.init(jax.random.key(1), x)
    kernel = variables['params']['Dense_0']['kernel'].reshape(5, 2, 2, 2)
    theirs = nn.ConvTranspose(2, (2, 2), strides=(2, 2), use_bias=False, transpose_kernel=False)
    expected = theirs.apply({'params': {'kernel': kernel.transpose(1, 2, 0, 3)[::-1, ::-1]}}, x)
    np.testing.assert_allclose(ours.apply(variables, x), expected, atol=1e-5)
