"""Memory for batches, used again as soon as nobody holds the batch any more. No JAX here.

Fresh memory is faulted in page by page, and what is freed the allocator often gives back to the system: for a slice
that costs several times what copying it does.
"""

import math
import weakref

import numpy as np


class Buffers:
    """Hands out uint8 arrays; there come to be as many as are held at one time."""

    def __init__(self) -> None:
        self._free: dict[int, list[bytearray]] = {}

    def take(self, shape: tuple[int, ...]) -> np.ndarray:
        """An array with anything in it. Its memory is used again when it and every view of it are gone."""
        size = math.prod(shape)
        free = self._free.setdefault(size, [])
        try:
            memory = free.pop()
        except IndexError:
            memory = bytearray(size)
        # Views refer to this array and not to each other, for its memory belongs to an object that is no array:
        # it goes when the last of them does.
        owner = np.frombuffer(memory, np.uint8)
        weakref.finalize(owner, free.append, memory).atexit = False
        return owner.reshape(shape)
