"""What a benchmark ran on, beside its numbers."""

import os
import platform
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax

LIBRARIES = ('jax', 'flax', 'numpy', 'grain', 'torch', 'monai')


def machine() -> dict[str, Any]:
    """Processor, cores, devices and versions."""
    return {
        'processor': _processor(),
        'cores': os.cpu_count(),
        'device': jax.devices()[0].device_kind,
        'devices': jax.device_count(),
        'versions': {
            'python': platform.python_version(),
            **{name: version(name) for name in LIBRARIES if find_spec(name)},
        },
    }


def machine_text(has: dict[str, Any]) -> str:
    """The same in a line or two."""
    versions = ', '.join(f'{name} {number}' for name, number in has['versions'].items())
    return f'{has["processor"]}, {has["cores"]} cores; {has["devices"]} x {has["device"]}\n{versions}'


def _processor() -> str:
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(': ')[2] for line in lines if line.startswith('model name')), platform.processor())
