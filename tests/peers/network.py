"""The U-Net that `liver-jax bench --peers` runs in PyTorch computes what ours does: `make test-peers` runs it."""

import os

os.environ['JAX_DISABLE_MOST_OPTIMIZATIONS'] = '1'  # JAX reads it when it is imported; quick compiles

import jax
import numpy as np
import optax
import pytest
import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from liver_jax.bench.flops import count_flops
from liver_jax.bench.peers.torch_unet import TorchUNet, load_variables
from liver_jax.models.unet import UNet

WIDTH, DEPTH = 8, 2
pytestmark = pytest.mark.filterwarnings('default')  # theirs are no business of ours


@pytest.fixture(scope='module')
def images():
    return np.random.default_rng(0).random((4, 16, 16, 1), np.float32)


@pytest.fixture(scope='module')
def masks(images):
    return (images > 0.9).astype(np.float32)


@pytest.fixture(scope='module')
def variables(images):
    """Ours, with numbers other than zero and one in the norms, as after some training."""
    net = UNet(width=WIDTH, depth=DEPTH)
    fresh = jax.device_get(jax.jit(lambda key: net.init(key, images, train=False))(jax.random.key(0)))
    rng = np.random.default_rng(1)

    def stirred(path, leaf):
        if 'up' in path[1].key and path[-1].key == 'bias':
            return np.tile(rng.normal(size=leaf.size // 4), 4).astype(np.float32)  # one for four, as in PyTorch
        return leaf + 0.03 * rng.normal(size=leaf.shape).astype(np.float32)

    return jax.tree_util.tree_map_with_path(stirred, fresh)


@pytest.fixture
def twin(variables):
    net = TorchUNet(WIDTH, DEPTH)
    load_variables(net, variables)
    return net


def ours(variables, images, train):
    return UNet(width=WIDTH, depth=DEPTH).apply(variables, images, train=train, mutable=['batch_stats'])[0]


def nchw(array):
    return torch.from_numpy(np.array(array.transpose(0, 3, 1, 2), order='C'))


@pytest.mark.parametrize('train', [False, True])
def test_the_same_logits(variables, images, twin, train):
    logits = jax.jit(ours, static_argnames='train')(variables, images, train=train)
    theirs = twin.train(train)(nchw(images)).detach().numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(logits, theirs, atol=1e-4)
    assert np.std(theirs) > 0.1


def test_the_same_loss_and_gradient(variables, images, masks, twin):
    def loss(params):
        logits = ours({**variables, 'params': params}, images, True)
        return optax.sigmoid_binary_cross_entropy(logits, masks).mean()

    value, gradient = jax.jit(jax.value_and_grad(loss))(variables['params'])
    result = functional.binary_cross_entropy_with_logits(twin.train()(nchw(images)), nchw(masks))
    result.backward()
    assert result.item() == pytest.approx(float(value), abs=1e-5)
    pairs = (
        (gradient['encoder0']['Conv_0']['kernel'].transpose(3, 2, 0, 1), twin.encoders[0][0].weight),
        (gradient['bridge']['BatchNorm_1']['scale'], twin.bridge[4].weight),
        (gradient['up1']['Dense_0']['bias'].reshape(4, -1).sum(0), twin.ups[1].bias),
        (gradient['logits']['bias'], twin.logits.bias),
    )
    for mine, theirs in pairs:
        np.testing.assert_allclose(mine, theirs.grad.numpy(), atol=1e-5)


def test_as_many_parameters_but_for_the_biases_of_up_sampling(variables, twin):
    mine = sum(leaf.size for leaf in jax.tree.leaves(variables['params']))
    theirs = sum(each.numel() for each in twin.parameters())
    assert mine - theirs == 3 * (8 + 16)  # four where a transposed convolution has one


def test_as_many_flops(variables, images, masks, twin):
    def loss(params, images):
        return ours({**variables, 'params': params}, images, True).mean()

    with FlopCounterMode(display=False) as counter:
        twin.train()(nchw(images)).mean().backward()
    assert count_flops(jax.grad(loss), variables['params'], images) == counter.get_total_flops()


def test_biases_that_pytorch_has_no_place_for_are_refused(variables, twin):
    params = {**variables['params'], 'up0': {'Dense_0': dict(variables['params']['up0']['Dense_0'])}}
    params['up0']['Dense_0']['bias'] = np.arange(32, dtype=np.float32)
    with pytest.raises(ValueError, match='four biases'):
        load_variables(twin, {**variables, 'params': params})
