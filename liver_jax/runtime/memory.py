"""On CPU a step's working memory is the same from step to step, where glibc would fetch it anew each time."""

import ctypes
import platform
from importlib.metadata import entry_points

# Parameters of glibc's mallopt(3), of malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> None:
    """Let malloc keep what is freed; to be called before JAX uses a device, for its threads take their arenas then.

    XLA:CPU allocates all temporary arrays of a program as one block at every call. glibc gets so large a block from
    the kernel and gives it back, so every page of it is faulted in and zeroed again in each step: a sixth of the
    processor time of a U-Net. Blocks of the one main arena's heap are kept instead. The price: host memory that was
    needed once stays with the process. Nothing is done where JAX has another backend than its own CPU one installed
    (working memory is on the device there), nor without glibc.
    """
    if platform.libc_ver()[0] != 'glibc' or entry_points(group='jax_plugins'):
        return
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(_ARENA_MAX, 1)  # other arenas cannot hold blocks of more than 64 MiB, and would map them
    mallopt(_MMAP_MAX, 0)
    mallopt(_TRIM_THRESHOLD, 2**31 - 1)  # bytes: the most that mallopt takes
