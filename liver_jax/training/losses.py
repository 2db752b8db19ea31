"""Losses on float32 logits."""

import jax
import optax


def binary_cross_entropy(logits: jax.Array, masks: jax.Array) -> jax.Array:
    """Mean over all pixels of -m log p - (1 - m) log(1 - p), p = sigmoid(logits); soft masks in [0, 1] are fine."""
    return optax.sigmoid_binary_cross_entropy(logits, masks).mean()
