"""One step of gradient descent, a pure function; jit and shardings are applied where it is wired."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from liver_jax.runtime.mesh import batch_sharding, replicated
from liver_jax.training.recipe import Recipe
from liver_jax.training.state import TrainState, update_average

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]
StepFn = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


def make_train_step(recipe: Recipe, mesh: Mesh) -> StepFn:
    """The compiled step: state replicated and donated, batch split over the mesh; gradients are of the global batch."""
    return jax.jit(
        partial(train_step, recipe),
        in_shardings=(replicated(mesh), batch_sharding(mesh)),
        out_shardings=(replicated(mesh), replicated(mesh)),
        donate_argnums=0,
    )


def train_step(recipe: Recipe, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
    """(state, batch with 'image' and 'mask' [N, H, W, 1]) -> (next state, metrics).

    The metrics are 'loss', 'learning_rate', and the global L2 norms 'gradient_norm' (before clipping) and
    'update_norm' (of what was added to the parameters).
    """
    loss, gradients, batch_stats = _gradients(recipe, state, batch)
    updates, opt_state = recipe.optimizer.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    average = update_average(state.average, params, batch_stats, state.step, recipe.ema_decay)
    metrics = {
        'loss': loss,
        'learning_rate': recipe.schedule(state.step),
        'gradient_norm': l2_norm(gradients),
        'update_norm': l2_norm(updates),
    }
    return TrainState(state.step + 1, params, batch_stats, opt_state, average), metrics


def l2_norm(tree: Any) -> jax.Array:
    """The L2 norm of all values, 0, infinite or NaN only if they are so: their squares may be beyond float32."""
    greatest = jnp.stack([jnp.abs(each).max() for each in jax.tree.leaves(tree)]).max()
    unit = jnp.clip(greatest, 2.0**-126, 2.0**126)  # its inverse is a normal number as well
    return unit * optax.tree.norm(jax.tree.map(lambda each: each / unit, tree))


def _gradients(recipe: Recipe, state: TrainState, batch: Batch) -> tuple[jax.Array, Any, Any]:
    """Loss of the batch, its gradients, and batch statistics; in parts, one after the other, if the recipe says so.

    Then batch norm normalises each part by itself and moves its statistics once per part: the batch that it sees is
    that much smaller. Group and instance norm do not know the difference.
    """

    def loss_fn(params: Any, batch_stats: Any, part: Batch) -> tuple[jax.Array, Any]:
        variables = {'params': params, 'batch_stats': batch_stats}
        logits, updated = recipe.model.apply(variables, part['image'], train=True, mutable=['batch_stats'])
        return recipe.loss(logits, part['mask']).mean(), updated.get('batch_stats', {})

    def add(carry: Any, part: Batch) -> tuple[Any, None]:
        batch_stats, sums = carry
        (loss, batch_stats), gradients = differentiate(state.params, batch_stats, part)
        return (batch_stats, jax.tree.map(jnp.add, sums, (loss, gradients))), None

    differentiate = jax.value_and_grad(loss_fn, has_aux=True)
    count = recipe.accumulate
    if count == 1:
        (loss, batch_stats), gradients = differentiate(state.params, state.batch_stats, batch)
        return loss, gradients, batch_stats
    zeros = jnp.zeros(()), jax.tree.map(jnp.zeros_like, state.params)
    (batch_stats, sums), _ = jax.lax.scan(add, (state.batch_stats, zeros), _parts(batch, count))
    loss, gradients = jax.tree.map(lambda each: each / count, sums)
    return loss, gradients, batch_stats


def _parts(batch: Batch, count: int) -> Batch:
    """[N, ...] -> [count, N / count, ...]. Part i has the rows i, i + count, …: of every device its share, unmoved."""
    return jax.tree.map(lambda x: x.reshape(-1, count, *x.shape[1:]).swapaxes(0, 1), batch)
