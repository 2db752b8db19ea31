"""What a run computes with, kept in its checkpoints: where it goes on with something else, it says so."""

import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import jax

from liver_jax import __version__

_LIBRARIES = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint')


def describe_environment() -> dict[str, Any]:
    """Versions, kind and number of devices, number of processes, as plain data."""
    return {
        'liver_jax': __version__,
        'python': platform.python_version(),
        **{name: version(name) for name in _LIBRARIES},
        'device': jax.devices()[0].device_kind,
        'devices': jax.device_count(),
        'processes': jax.process_count(),
    }


def environment_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs, as `jax: 0.10.2 -> 0.11.0` each."""
    names = [*now, *(name for name in before if name not in now)]
    return [f'{name}: {before.get(name)} -> {now.get(name)}' for name in names if before.get(name) != now.get(name)]
