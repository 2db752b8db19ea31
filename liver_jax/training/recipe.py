"""What a train step does, beside the state and the batch that it is done to."""

import dataclasses

import optax
from flax import linen as nn

from liver_jax.config import Config
from liver_jax.metrics.losses import LossFn, make_loss
from liver_jax.models import build_model
from liver_jax.training.optim import make_optimizer, make_schedule


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Network, optimizer, learning rate and loss; parts of a batch; decay of the moving average (0: none)."""

    model: nn.Module
    optimizer: optax.GradientTransformation
    schedule: optax.Schedule
    loss: LossFn
    accumulate: int = 1
    ema_decay: float = 0.0


def make_recipe(config: Config, steps_per_epoch: int) -> Recipe:
    """What the config asks for."""
    schedule = make_schedule(config.optim, steps_per_epoch, config.train.epochs)
    return Recipe(
        model=build_model(config.model),
        optimizer=make_optimizer(config.optim, schedule),
        schedule=schedule,
        loss=make_loss(config.loss),
        accumulate=config.train.accumulate,
        ema_decay=config.optim.ema_decay,
    )
