"""What a computation multiplies: counted in its program, and what the device can do at most, measured."""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxprs_in_params

SIDE_ON_CPU, SIDE = 2048, 8192  # of the matrices


def count_flops(function: Callable[..., Any], *arguments: Any) -> int:
    """FLOPs of the convolutions and matrix products of a function, 2 per multiply-add; nothing is computed.

    Taps on padding count, as in PyTorch's counter. `arguments` may be shapes.
    """
    return sum(map(_flops, _operations(jax.make_jaxpr(function)(*arguments).jaxpr)))


class MatrixProduct:
    """Products of large square matrices: the most that a device computes, by experience. A `timing.Side`."""

    def __init__(self, dtype: str) -> None:
        side = SIDE_ON_CPU if jax.default_backend() == 'cpu' else SIDE
        rng = np.random.default_rng(0)
        pair = [jnp.asarray(rng.standard_normal((side, side), np.float32), dtype) for _ in range(2)]
        self._inputs = itertools.cycle([pair, pair[::-1]])
        self._multiply = jax.jit(jnp.matmul)
        self.flops = 2 * side**3

    def __call__(self, calls: int) -> None:
        """Multiply so many times."""
        for _ in range(calls):
            product = self._multiply(*next(self._inputs))
        jax.block_until_ready(product)


def _operations(jaxpr: Any) -> Iterator[Any]:
    """All operations, those within operations too."""
    for operation in jaxpr.eqns:
        yield operation
        for inner in jaxprs_in_params(operation.params):
            yield from _operations(inner)


def _flops(operation: Any) -> int:
    if operation.primitive.name == 'conv_general_dilated':
        kernel, (_, channels, *places) = operation.invars[1].aval.shape, operation.params['dimension_numbers'].rhs_spec
        summed = kernel[channels] * math.prod(kernel[place] for place in places)
    elif operation.primitive.name == 'dot_general':
        (contracted, _), _ = operation.params['dimension_numbers']
        summed = math.prod(operation.invars[0].aval.shape[axis] for axis in contracted)
    else:
        return 0
    return 2 * summed * math.prod(operation.outvars[0].aval.shape)
