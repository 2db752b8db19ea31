"""What a train step changes."""

from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from liver_jax.runtime.mesh import put_whole, replicated
from liver_jax.training.recipe import Recipe

# At LLVM's usual level the random numbers, a program for every kernel's shape, take longer to compile than a train
# step; they are drawn once, and are the same bits at this one.
_QUICKLY = {'xla_backend_optimization_level': 1}


@flax.struct.dataclass
class TrainState:
    """Step (int32), parameters and batch statistics (float32), the optimizer's state, and the moving average.

    `average` has `params` and `batch_stats` like the network's own; it is None where the recipe has none.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any
    average: Any = None

    @property
    def variables(self) -> dict[str, Any]:
        """What the network is scored with, and saved for: the moving average, where there is one."""
        return self.average or self._trained

    @property
    def unscored(self) -> dict[str, Any]:
        """The rest, which only training goes on from: the optimizer's state, and what the average is of."""
        return {'opt_state': self.opt_state, 'trained': self._trained if self.average else {}}

    @property
    def _trained(self) -> dict[str, Any]:
        return {'params': self.params, 'batch_stats': self.batch_stats}


def init_state(recipe: Recipe, image_size: int, seed: int, mesh: Mesh) -> TrainState:
    """A fresh state, computed where it will live: replicated over the mesh."""

    def init(words: jax.Array) -> TrainState:
        return _fresh(recipe, image_size, jax.random.wrap_key_data(words))

    words = put_whole(np.asarray(jax.random.key_data(jax.random.key(seed))), replicated(mesh))
    return jax.jit(init, out_shardings=replicated(mesh), compiler_options=_QUICKLY)(words)


def state_shape(recipe: Recipe, image_size: int) -> TrainState:
    """Shapes and dtypes of a state; nothing is computed."""
    return jax.eval_shape(lambda: _fresh(recipe, image_size, jax.random.key(0)))


def join_state(step: jax.Array, variables: dict[str, Any], unscored: dict[str, Any]) -> TrainState:
    """The state of which `variables` and `unscored` are."""
    trained = unscored['trained']
    own = trained or variables
    average = variables if trained else None
    return TrainState(step, own['params'], own['batch_stats'], unscored['opt_state'], average)


def update_average(average: Any, params: Any, batch_stats: Any, step: jax.Array, decay: float) -> Any:
    """The exponential moving average after the update that started at `step`; None stays None.

    The decay rises as min(decay, (1 + step) / (10 + step)), so that the initial weights are soon forgotten (as in
    TensorFlow's `tf.train.ExponentialMovingAverage`). Batch statistics are averaged too (as in EfficientNet, Tan and
    Le, ICML 2019): those of the latest weights would not fit averaged ones.
    """
    if average is None:
        return None
    risen = jnp.minimum(decay, (1 + step) / (10 + step))
    return optax.incremental_update({'params': params, 'batch_stats': batch_stats}, average, 1 - risen)


def _fresh(recipe: Recipe, image_size: int, key: jax.Array) -> TrainState:
    variables = recipe.model.init(key, jnp.zeros((1, image_size, image_size, 1)), train=False)
    params, batch_stats = variables['params'], variables.get('batch_stats', {})
    average = {'params': params, 'batch_stats': batch_stats} if recipe.ema_decay else None
    return TrainState(jnp.zeros((), jnp.int32), params, batch_stats, recipe.optimizer.init(params), average)
