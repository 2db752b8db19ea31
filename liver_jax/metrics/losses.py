"""Losses on float32 logits, one value per image: what is trained and what validation reports are the same numbers.

The loss of a batch is the mean over its images. So it depends neither on the number of devices nor on how a batch is
accumulated, and a small tumour counts as much as a large one. Masks may be soft, in [0, 1].
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

LossFn = Callable[[jax.Array, jax.Array], jax.Array]
SMOOTH = 1.0  # pixels added to both sides of a ratio: an empty mask has a loss and a gradient, 0 where nothing is found
PIXELS = (1, 2, 3)


def make_loss(config: Any) -> LossFn:
    """(logits, masks) [N, H, W, 1] -> losses [N], for a `LossConfig` (name, focal_*, tversky_*)."""
    losses: dict[str, LossFn] = {
        'bce': binary_cross_entropy,
        'dice': dice,
        'dice_bce': lambda logits, masks: dice(logits, masks) + binary_cross_entropy(logits, masks),
        'focal': partial(focal, alpha=config.focal_alpha, gamma=config.focal_gamma),
        'tversky': partial(tversky, alpha=config.tversky_alpha, beta=config.tversky_beta),
    }
    return losses[config.name]


def binary_cross_entropy(logits: jax.Array, masks: jax.Array) -> jax.Array:
    """Mean over the pixels of each image of -m log p - (1 - m) log(1 - p), p = sigmoid(logits)."""
    return optax.sigmoid_binary_cross_entropy(logits, masks).mean(PIXELS)


def dice(logits: jax.Array, masks: jax.Array) -> jax.Array:
    """1 - (2 Σpm + s) / (Σp² + Σm² + s), s = SMOOTH: the soft Dice of Milletari et al. (3DV 2016, V-Net).

    With squares, unlike Σp + Σm, the best prediction of a soft mask is the mask itself, with loss 0.
    """
    p = jax.nn.sigmoid(logits)
    both = jnp.sum(p * masks, PIXELS)
    return 1 - (2 * both + SMOOTH) / (jnp.sum(p**2 + masks**2, PIXELS) + SMOOTH)


def tversky(logits: jax.Array, masks: jax.Array, alpha: float, beta: float) -> jax.Array:
    """1 - (TP + s) / (TP + alpha FP + beta FN + s), TP = Σpm, FP = Σp(1 - m), FN = Σ(1 - p)m.

    Salehi et al. (MLMI 2017). With beta above alpha, missing costs more than finding too much; halves of both are
    Dice without squares.
    """
    p = jax.nn.sigmoid(logits)
    both = jnp.sum(p * masks, PIXELS)
    wrong = jnp.sum(alpha * p * (1 - masks) + beta * (1 - p) * masks, PIXELS)
    return 1 - (both + SMOOTH) / (both + wrong + SMOOTH)


def focal(logits: jax.Array, masks: jax.Array, alpha: float, gamma: float) -> jax.Array:
    """Mean over the pixels of each image of -a (1 - q)^gamma log q (Lin et al., ICCV 2017).

    q is the probability given to what the pixel is; a is alpha on foreground and 1 - alpha on background.
    """
    return optax.sigmoid_focal_loss(logits, masks, alpha=alpha, gamma=gamma).mean(PIXELS)
