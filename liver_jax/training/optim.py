"""Adam (Kingma and Ba, ICLR 2015) and its learning rate over the steps."""

import optax

from liver_jax.config import OptimConfig


def make_schedule(config: OptimConfig, steps_per_epoch: int, epochs: int) -> optax.Schedule:
    """step -> learning rate: linear warm-up, then constant or cosine to zero (Loshchilov and Hutter, ICLR 2017)."""
    total = steps_per_epoch * epochs
    warmup = min(round(config.warmup_epochs * steps_per_epoch), total - 1)
    if config.schedule == 'cosine':
        after: optax.Schedule = optax.cosine_decay_schedule(config.learning_rate, total - warmup)
    else:
        after = optax.constant_schedule(config.learning_rate)
    if not warmup:
        return after
    # From one step's worth rather than zero: the first step should not be idle.
    rise = optax.linear_schedule(config.learning_rate / (warmup + 1), config.learning_rate, warmup)
    return optax.join_schedules([rise, after], [warmup])


def make_optimizer(config: OptimConfig, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Adam with this schedule."""
    return optax.adam(schedule, b1=config.b1, b2=config.b2)
