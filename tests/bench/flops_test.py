"""FLOPs by hand, on paper: 2 per multiply-add, taps on padding counted."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import linen as nn

from liver_jax.bench.flops import MatrixProduct, count_flops
from liver_jax.models import build_model

IMAGE = jax.ShapeDtypeStruct((2, 6, 8, 5), jnp.float32)
CONV = 2 * (2 * 6 * 8 * 7) * (3 * 3 * 5)  # outputs, times taps and channels of each


def conv(kernel, image):
    return jax.lax.conv_general_dilated(image, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC'))


KERNEL = jax.ShapeDtypeStruct((3, 3, 5, 7), jnp.float32)


def test_a_convolution():
    assert count_flops(conv, KERNEL, IMAGE) == CONV == 60480


def test_its_gradients_take_as_much_again_each():
    both = jax.grad(lambda kernel, image: conv(kernel, image).sum(), argnums=(0, 1))
    only = jax.grad(lambda kernel, image: (conv(kernel, image) ** 2).sum())
    assert count_flops(both, KERNEL, IMAGE) == 3 * CONV
    assert count_flops(only, KERNEL, IMAGE) == 2 * CONV


def test_a_convolution_of_groups_has_fewer_channels_in_each_sum():
    module = nn.Conv(6, (3, 3), feature_group_count=2)
    image = jnp.zeros((1, 4, 4, 4))
    params = module.init(jax.random.key(0), image)
    assert count_flops(module.apply, params, image) == 2 * (4 * 4 * 6) * (3 * 3 * 2)


def test_a_matrix_product_with_a_batch_within_a_function_within():
    a, b = jax.ShapeDtypeStruct((3, 4, 5), jnp.float32), jax.ShapeDtypeStruct((3, 5, 6), jnp.float32)
    assert count_flops(jax.jit(jnp.matmul), a, b) == 2 * (3 * 4 * 6) * 5


def test_additions_do_not_count():
    assert count_flops(lambda x: jnp.tanh(x + 1).sum(), IMAGE) == 0


def test_the_forward_pass_of_a_small_network(config):
    """32x32, width 8, depth 2: per level two 3x3 convolutions each way, two up-samplings, one logit."""
    model = build_model(dataclasses.replace(config.model, name='unet', width=8, depth=2))
    image = jnp.zeros((1, 32, 32, 1))
    variables = jax.eval_shape(lambda key: model.init(key, image, train=False), jax.random.key(0))
    convolutions = [
        (32, 1, 8), (32, 8, 8), (16, 8, 16), (16, 16, 16), (8, 16, 32), (8, 32, 32),
        (16, 32, 16), (16, 16, 16), (32, 16, 8), (32, 8, 8),
    ]  # fmt: skip
    expected = sum(2 * side**2 * 9 * inputs * outputs for side, inputs, outputs in convolutions)
    expected += 2 * 8**2 * 32 * 4 * 16 + 2 * 16**2 * 16 * 4 * 8 + 2 * 32**2 * 8
    assert count_flops(lambda v, x: model.apply(v, x, train=False), variables, image) == expected


def test_the_large_product_is_of_two_random_matrices_in_turn(monkeypatch):
    monkeypatch.setattr('liver_jax.bench.flops.SIDE_ON_CPU', 16)
    product = MatrixProduct('bfloat16')
    assert product.flops == 2 * 16**3
    (a, b), (c, d) = next(product._inputs), next(product._inputs)
    assert a.dtype == jnp.bfloat16
    assert (a == d).all()
    assert (b == c).all()
    assert not (a == b).any()
    product(3)
