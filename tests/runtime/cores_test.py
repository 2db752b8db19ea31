"""How many devices a CPU is taken for: by hand, and in real processes."""

import os
import subprocess
import sys

import pytest

from liver_jax.runtime.cores import count_devices

PROGRAM = """
import os
os.sched_getaffinity = lambda _: range(4)
from liver_jax.runtime.cores import use_cores
use_cores((16, 24))
import jax
print(jax.device_count())
"""


@pytest.mark.parametrize(
    ('cores', 'sizes', 'devices'),
    [(1, (8,), 1), (2, (8,), 2), (4, (8,), 2), (4, (16, 24), 4), (64, (16, 24), 4), (4, (6,), 1), (3, (16,), 2)],
)
def test_devices_share_all_batches_with_four_slices_each(cores, sizes, devices):
    assert count_devices(cores, sizes) == devices


@pytest.mark.parametrize(
    ('said', 'devices'),
    [({}, 4), ({'JAX_NUM_CPU_DEVICES': '3'}, 3), ({'XLA_FLAGS': '--xla_force_host_platform_device_count=2'}, 2)],
)
def test_what_the_user_says_counts(said, devices):
    kept = {name: value for name, value in os.environ.items() if name not in ('JAX_NUM_CPU_DEVICES', 'XLA_FLAGS')}
    arguments = [sys.executable, '-c', PROGRAM]
    done = subprocess.run(arguments, check=True, capture_output=True, text=True, env={**kept, **said})
    assert int(done.stdout) == devices
