"""One step, looked at layer by layer: where the first number that is not finite comes from."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from liver_jax.data.augment import to_unit
from liver_jax.runtime.mesh import batch_sharding, replicated
from liver_jax.training.recipe import Recipe
from liver_jax.training.state import TrainState
from liver_jax.training.step import Batch, l2_norm, train_step

Found = dict[str, Any]


def examine_step(recipe: Recipe, mesh: jax.sharding.Mesh, state: TrainState, batch: Batch) -> Found:
    """What the train step makes of a float32 batch, the state staying as it is.

    'numbers' are the metrics of the step; 'images' the least and greatest value of every slice; 'layers', in the order
    of the network, have the L2 norms of parameters, gradient and update, and the greatest absolute value of the output.
    """

    def look(state: TrainState, batch: Batch) -> Found:
        watched = dataclasses.replace(recipe, optimizer=_watched(recipe.optimizer))
        after, metrics = train_step(watched, state, batch)
        own = {'params': state.params, 'batch_stats': state.batch_stats}
        trees = {'parameters': state.params, **after.opt_state}
        return {'numbers': metrics, **_look_at(recipe.model, own, batch['image'], trees, train=True)}

    return _in_order(recipe.model, batch['image'], _run(look, mesh, state, batch))


def examine_validation(recipe: Recipe, mesh: jax.sharding.Mesh, state: TrainState, batch: Batch) -> Found:
    """The same of the scored network on a uint8 batch [B, H, W]; 'numbers' is the mean loss, 'losses' are by slice."""

    def look(state: TrainState, batch: Batch) -> Found:
        images, masks = to_unit(batch['image']), to_unit(batch['mask'])
        logits: Any = recipe.model.apply(state.variables, images, train=False)
        losses = recipe.loss(logits, masks)
        trees = {'parameters': state.variables['params']}
        found = _look_at(recipe.model, state.variables, images, trees, train=False)
        return {'numbers': {'loss': losses.mean()}, 'losses': losses, **found}

    return _in_order(recipe.model, to_unit(batch['image']), _run(look, mesh, state, batch))


def all_finite(found: Found) -> bool:
    """Whether every number of the step is."""
    return all(math.isfinite(float(value)) for value in found['numbers'].values())


def first_layer(found: Found, name: str, backwards: bool = False) -> str | None:
    """The first layer whose `name` ('output', 'gradient', …) is not finite, from the image on or from the loss back."""
    layers = reversed(found['layers']) if backwards else found['layers']
    return next((each['layer'] for each in layers if not math.isfinite(float(each.get(name, 0)))), None)


def _watched(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """The same updates; in place of its next state it gives what it got and what it made of it."""

    def update(gradients: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        updates, _ = optimizer.update(gradients, state, params)
        return updates, {'gradient': gradients, 'update': updates}

    return optax.GradientTransformation(optimizer.init, update)


def _run(look: Any, mesh: jax.sharding.Mesh, state: TrainState, batch: Batch) -> Found:
    compiled = jax.jit(
        look, in_shardings=(replicated(mesh), batch_sharding(mesh)), out_shardings=replicated(mesh)
    )  # nothing is donated: the state is wanted afterwards
    found: Found = jax.device_get(compiled(state, batch))
    return found


def _look_at(model: nn.Module, variables: Any, images: jax.Array, trees: Mapping[str, Any], train: bool) -> Found:
    """By layer: the greatest output of a forward pass, and the norms of trees that look like the parameters."""
    collections = ['intermediates', 'batch_stats']
    _, seen = model.apply(variables, images, train=train, mutable=collections, capture_intermediates=True)
    outputs = _by_layer(seen['intermediates'], _greatest, drop=2)  # of its path: __call__ and a number
    norms = {name: _by_layer(tree, l2_norm, drop=1) for name, tree in trees.items()}
    layers = {
        layer: {'output': outputs[layer], **{name: norm[layer] for name, norm in norms.items()}}
        for layer in norms['parameters']
    }
    ranges = jnp.stack([-jax.vmap(_greatest)(-images), jax.vmap(_greatest)(images)], axis=1)
    return {'images': ranges, 'layers': layers}


def _greatest(x: jax.Array) -> jax.Array:
    """The greatest value; NaN if there is one, which XLA's maximum on CPUs passes over."""
    return jnp.where(jnp.isnan(x).any(), jnp.nan, x.max())


def _by_layer(tree: Any, measure: Any, drop: int) -> dict[str, jax.Array]:
    """One number per layer, measured of all its values; their absolute values, in float32."""
    layers: dict[str, list[jax.Array]] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        layer = jax.tree_util.keystr(path[:-drop], simple=True, separator='.')
        layers.setdefault(layer, []).append(jnp.abs(leaf.astype(jnp.float32)).ravel())
    return {layer: measure(jnp.concatenate(leaves)) for layer, leaves in layers.items()}


def _in_order(model: nn.Module, images: jax.Array, found: Found) -> Found:
    """Plain data, the layers as a list in the order in which the network comes to them."""
    order: list[str] = []

    def note(call: Any, arguments: Any, keywords: Any, context: Any) -> Any:
        order.append('.'.join(context.module.path))
        return call(*arguments, **keywords)

    image = jax.ShapeDtypeStruct((1, *images.shape[1:]), jnp.float32)
    with nn.intercept_methods(note):
        jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), image)
    layers = sorted(found['layers'], key=order.index)
    plain: Found = jax.tree.map(lambda x: x.tolist(), {name: each for name, each in found.items() if name != 'layers'})
    numbers = [{name: float(value) for name, value in found['layers'][layer].items()} for layer in layers]
    return {**plain, 'layers': [{'layer': layer, **each} for layer, each in zip(layers, numbers, strict=True)]}
