"""What a train step changes."""

from typing import Any

import flax
import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax.sharding import Mesh

from liver_jax.runtime.mesh import replicated


@flax.struct.dataclass
class TrainState:
    """Step (int32), parameters and batch statistics (float32), and the optimizer's state."""

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any

    @property
    def variables(self) -> dict[str, Any]:
        """What the network is applied with."""
        return {'params': self.params, 'batch_stats': self.batch_stats}


def init_state(
    model: nn.Module, optimizer: optax.GradientTransformation, image_size: int, seed: int, mesh: Mesh
) -> TrainState:
    """A fresh state, computed where it will live: replicated over the mesh."""

    def init(key: jax.Array) -> TrainState:
        variables = model.init(key, jnp.zeros((1, image_size, image_size, 1)), train=False)
        params = variables['params']
        return TrainState(jnp.zeros((), jnp.int32), params, variables.get('batch_stats', {}), optimizer.init(params))

    key = jax.device_put(jax.random.key(seed), replicated(mesh))
    return jax.jit(init, out_shardings=replicated(mesh))(key)
