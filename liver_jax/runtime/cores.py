"""On CPU a device per core: XLA divides few convolutions among cores, and devices divide the batch."""

import os
from collections.abc import Sequence
from importlib.metadata import entry_points

_LEAST = 4  # slices of a device: what was measured
_SAID = 'xla_force_host_platform_device_count'


def use_cores(batch_sizes: Sequence[int]) -> None:
    """Have JAX take this CPU for several devices, as many as can share all these batches; before it uses a device.

    Nothing is done where the user says how many there are (JAX_NUM_CPU_DEVICES), nor where JAX has another backend than
    its own CPU one installed. Of several processes each has its one.
    """
    if os.environ.get('JAX_NUM_CPU_DEVICES') or _SAID in os.environ.get('XLA_FLAGS', ''):
        return
    if entry_points(group='jax_plugins'):
        return
    import jax

    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    jax.config.update('jax_num_cpu_devices', count_devices(cores, batch_sizes))


def count_devices(cores: int, batch_sizes: Sequence[int]) -> int:
    """The most devices, one per core, that share each of the batches evenly, with four slices each or more."""
    fitting = (n for n in range(1, cores + 1) if all(size % n == 0 and size // n >= _LEAST for size in batch_sizes))
    return max(fitting, default=1)
