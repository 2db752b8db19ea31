"""Optimizers and learning rates, all of optax: what a config asks for, put together."""

from typing import Any

import jax
import optax

from liver_jax.config_training import OptimConfig


def make_schedule(config: OptimConfig, steps_per_epoch: int, epochs: int) -> optax.Schedule:
    """step -> learning rate: linear warm-up, then constant, or down to zero at the last step.

    Down as half a cosine (Loshchilov and Hutter, ICLR 2017) or as rate * (1 - part done)^power (Chen et al., DeepLab,
    TPAMI 2018; nnU-Net with power 0.9).
    """
    total = steps_per_epoch * epochs
    warmup = min(round(config.warmup_epochs * steps_per_epoch), total - 1)
    rate, left = config.learning_rate, total - warmup
    after: optax.Schedule = {
        'constant': lambda: optax.constant_schedule(rate),
        'cosine': lambda: optax.cosine_decay_schedule(rate, left),
        'polynomial': lambda: optax.polynomial_schedule(rate, 0.0, config.power, left),
    }[config.schedule]()
    if not warmup:
        return after
    # From one step's worth rather than zero: the first step should not be idle.
    rise = optax.linear_schedule(rate / (warmup + 1), rate, warmup)
    return optax.join_schedules([rise, after], [warmup])


def make_optimizer(config: OptimConfig, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Adam (Kingma and Ba, ICLR 2015), AdamW (Loshchilov and Hutter, ICLR 2019) or SGD with Nesterov's momentum.

    Weight decay leaves norms and biases alone. Of AdamW it is decoupled; of SGD it is added to the gradient, as in
    PyTorch and nnU-Net. The gradient is clipped before all else.
    """
    decay = config.weight_decay
    if config.name == 'adam':
        optimizer = optax.adam(schedule, b1=config.b1, b2=config.b2)
    elif config.name == 'adamw':
        optimizer = optax.adamw(schedule, b1=config.b1, b2=config.b2, weight_decay=decay, mask=_decays)
    else:
        sgd = optax.sgd(schedule, config.momentum, nesterov=True)
        optimizer = optax.chain(optax.add_decayed_weights(decay, _decays), sgd) if decay else sgd
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), optimizer) if config.clip_norm else optimizer


def _decays(params: Any) -> Any:
    """True for the kernels; scales and biases have one axis alone."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)
