"""The two networks, as functional `flax.linen` modules."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from liver_jax.models.resunet import ResUNet
from liver_jax.models.unet import UNet

DISPLAY_NAMES = {'unet': 'U-Net', 'resunet': 'ResU-Net'}


def build_model(config: Any) -> nn.Module:
    """The network of a `ModelConfig` (fields name, width, depth, norm, upsample, dtype, remat, prior)."""
    network = {'unet': UNet, 'resunet': ResUNet}[config.name]
    return network(
        width=config.width,
        depth=config.depth,
        norm=config.norm,
        upsample=config.upsample,
        dtype=jnp.dtype(config.dtype),
        remat=config.remat,
        prior=config.prior,
    )


def describe_model(model: nn.Module, image_size: int, channels: int = 1) -> dict[str, float]:
    """`parameters` (count) and `gflops`, those of one forward pass of one slice (2 per multiply-add)."""
    image = jax.ShapeDtypeStruct((1, image_size, image_size, channels), jnp.float32)
    variables = jax.eval_shape(lambda key, x: model.init(key, x, train=False), jax.random.key(0), image)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(variables['params']))
    cost = jax.jit(lambda v, x: model.apply(v, x, train=False)).lower(variables, image).cost_analysis() or {}
    return {'parameters': parameters, 'gflops': cost.get('flops', float('nan')) / 1e9}
