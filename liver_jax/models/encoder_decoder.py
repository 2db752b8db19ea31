"""The shape that both networks share: encoder, bridge, decoder with skip connections, one logit per pixel."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from liver_jax.models.blocks import Upsample, make_norm, max_pool


class EncoderDecoder(nn.Module):
    """[N, H, W, C] images -> [N, H, W, 1] float32 logits; H and W divisible by 2^depth.

    Level d has `width * 2**d` channels. `block` is the only difference between the two networks, so that a
    comparison measures residual connections and nothing else. With `remat` what happens within a block is computed
    anew in the backward pass (Chen et al., arXiv 1604.06174) and takes no memory until then.
    """

    block: type[nn.Module]
    width: int = 64
    depth: int = 4
    norm: str = 'batch'
    upsample: str = 'transpose'
    dtype: Any = jnp.float32
    remat: bool = False
    prior: float = 0.5

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Logits of the images; with `train`, batch statistics are updated (collection 'batch_stats')."""
        if x.shape[1] % 2**self.depth or x.shape[2] % 2**self.depth:
            raise ValueError(f'image of {x.shape[1]}x{x.shape[2]} is not divisible by {2**self.depth} (2^depth)')
        conv = partial(nn.Conv, use_bias=False, dtype=self.dtype, kernel_init=nn.initializers.he_normal())
        kind = nn.remat(self.block) if self.remat else self.block
        block = partial(kind, conv=conv, norm=make_norm(self.norm, self.dtype, train))
        x = x.astype(self.dtype)
        skips = []
        for level in range(self.depth):
            x = block(self.width * 2**level, name=f'encoder{level}')(x)
            skips.append(x)
            x = max_pool(x)
        x = block(self.width * 2**self.depth, name='bridge')(x)
        for level in reversed(range(self.depth)):
            x = Upsample(self.width * 2**level, self.upsample, self.dtype, name=f'up{level}')(x)
            x = jnp.concatenate([skips[level], x], axis=-1)
            x = block(self.width * 2**level, name=f'decoder{level}')(x)
        bias = nn.initializers.constant(math.log(self.prior / (1 - self.prior)))
        return nn.Dense(1, dtype=jnp.float32, bias_init=bias, name='logits')(x.astype(jnp.float32))
