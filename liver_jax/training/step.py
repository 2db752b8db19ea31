"""One step of gradient descent, a pure function; jit and shardings are applied where it is wired."""

from collections.abc import Callable
from typing import Any

import jax
import optax
from flax import linen as nn
from jax.sharding import Mesh

from liver_jax.runtime.mesh import batch_sharding, replicated
from liver_jax.training.losses import binary_cross_entropy
from liver_jax.training.state import TrainState

Metrics = dict[str, jax.Array]
StepFn = Callable[[TrainState, dict[str, jax.Array]], tuple[TrainState, Metrics]]


def make_train_step(
    model: nn.Module, optimizer: optax.GradientTransformation, schedule: optax.Schedule, mesh: Mesh
) -> StepFn:
    """The compiled step: state replicated and donated, batch split over the mesh; gradients are of the global batch."""

    def step(state: TrainState, batch: dict[str, jax.Array]) -> tuple[TrainState, Metrics]:
        return train_step(model, optimizer, schedule, state, batch)

    return jax.jit(
        step,
        in_shardings=(replicated(mesh), batch_sharding(mesh)),
        out_shardings=(replicated(mesh), replicated(mesh)),
        donate_argnums=0,
    )


def train_step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    state: TrainState,
    batch: dict[str, jax.Array],
) -> tuple[TrainState, Metrics]:
    """(state, batch with 'image' and 'mask' [N, H, W, 1]) -> (next state, 'loss' and 'learning_rate')."""

    def loss_fn(params: Any) -> tuple[jax.Array, Any]:
        variables = {'params': params, 'batch_stats': state.batch_stats}
        logits, updated = model.apply(variables, batch['image'], train=True, mutable=['batch_stats'])
        return binary_cross_entropy(logits, batch['mask']), updated.get('batch_stats', {})

    (loss, batch_stats), gradients = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    metrics = {'loss': loss, 'learning_rate': schedule(state.step)}
    return TrainState(state.step + 1, params, batch_stats, opt_state), metrics
