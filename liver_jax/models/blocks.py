"""Blocks both networks are made of. Images are NHWC; `dtype` is that of activations, parameters are float32."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

Norm = Callable[..., nn.Module]


class ConvBlock(nn.Module):
    """Two 3x3 convolutions, each with normalisation and ReLU (Ronneberger et al., MICCAI 2015; norm added).

    [N, H, W, C] -> [N, H, W, features].
    """

    features: int
    conv: Callable[..., nn.Module]
    norm: Norm

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Apply the block."""
        for _ in range(2):
            x = nn.relu(self.norm()(self.conv(self.features, (3, 3))(x)))
        return x


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut: identity, or 1x1 projection where channels change.

    He et al., CVPR 2016 (option B), as used in residual U-Nets (Zhang et al., IEEE GRSL 2018). The scale of the
    last normalisation starts at zero, so each block starts as its shortcut (Goyal et al., arXiv 1706.02677).
    [N, H, W, C] -> [N, H, W, features].
    """

    features: int
    conv: Callable[..., nn.Module]
    norm: Norm

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Apply the block."""
        y = nn.relu(self.norm()(self.conv(self.features, (3, 3))(x)))
        y = self.norm(scale_init=nn.initializers.zeros)(self.conv(self.features, (3, 3))(y))
        if x.shape[-1] != self.features:
            x = self.norm(name='norm_projection')(self.conv(self.features, (1, 1), name='projection')(x))
        return nn.relu(x + y)


class Upsample(nn.Module):
    """Doubles height and width: [N, H, W, C] -> [N, 2H, 2W, features].

    'transpose' is the 2x2 transposed convolution with stride 2, computed as one matrix product per pixel and a
    rearrangement (the same function, faster on XLA); 'bilinear' interpolates and then mixes channels 1x1.
    """

    features: int
    method: str
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Apply the up-sampling."""
        n, h, w, c = x.shape
        if self.method == 'bilinear':
            x = jax.image.resize(x, (n, 2 * h, 2 * w, c), 'bilinear')
            return nn.Dense(self.features, dtype=self.dtype)(x)
        x = nn.Dense(4 * self.features, dtype=self.dtype)(x)
        x = x.reshape(n, h, w, 2, 2, self.features).transpose(0, 1, 3, 2, 4, 5)
        return x.reshape(n, 2 * h, 2 * w, self.features)


def max_pool(x: jax.Array) -> jax.Array:
    """2x2 maximum with stride 2: [N, H, W, C] -> [N, H/2, W/2, C].

    Of pairs, as the gradient of `nn.max_pool` (select-and-scatter) has no deterministic kernel on GPUs, and that of
    `jnp.max` divides by the number of maxima, which is zero where XLA computes x anew and rounds it otherwise. Equal
    maxima share the gradient, which changes nothing: here they are the zeros of a ReLU, or rare.
    """
    rows = jnp.maximum(x[:, ::2], x[:, 1::2])
    return jnp.maximum(rows[:, :, ::2], rows[:, :, 1::2])


def make_norm(kind: str, dtype: Any, train: bool) -> Norm:
    """The normalisation layer: 'batch', 'group' (8 channels a group) or 'instance'; statistics in float32."""
    if kind == 'batch':
        return lambda **k: nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-5, dtype=dtype, **k)
    size = {'group': 8, 'instance': 1}[kind]
    return lambda **k: nn.GroupNorm(num_groups=None, group_size=size, epsilon=1e-5, dtype=dtype, **k)
