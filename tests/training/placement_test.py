"""Where the training slices lie: by free memory, or an error that says what to do."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

from liver_jax.data.store import SliceStore
from liver_jax.errors import UserError
from liver_jax.runtime.mesh import make_mesh
from liver_jax.training import placement
from liver_jax.training.placement import ResidentSlices, fits_on_devices, free_memory

SLICES = 1000  # 32x32: images and masks take 2,048,000 bytes


class Device:
    def __init__(self, stats):
        self.memory_stats = lambda: stats


def devices(*free):
    return [Device({'bytes_limit': 10_000_000 + each, 'bytes_in_use': 10_000_000}) for each in free]


@pytest.fixture
def data(config):
    return lambda wanted: dataclasses.replace(config.data, placement=wanted)


@pytest.mark.parametrize(
    ('wanted', 'free', 'on_device'),
    [
        ('auto', [4 * 2_048_000, 10**9], True),
        ('auto', [10**9, 4 * 2_048_000 - 1], False),  # the device with the least decides
        ('device', [2_048_000], True),
        ('host', [10**12], False),
    ],
)
def test_the_choice_by_free_memory(data, wanted, free, on_device, caplog):
    with caplog.at_level('INFO', 'liver_jax'):
        assert fits_on_devices(data(wanted), SLICES, devices(*free)) is on_device
    assert len(caplog.records) == 1
    where = 'in the memory of each device' if on_device else 'read from the store by the host'
    assert caplog.records[0].message.startswith(f'training slices {where}: 1,000 of them, 2 MB')


@pytest.mark.parametrize('stats', [None, {}, {'bytes_in_use': 5}])
def test_where_free_memory_is_not_known_auto_stays_with_the_host(data, stats):
    assert not fits_on_devices(data('auto'), SLICES, [Device(stats)])
    assert fits_on_devices(data('device'), SLICES, [Device(stats)])


def test_cpus_do_not_tell():
    assert free_memory(jax.devices()[0]) is None


def test_no_room_is_an_error_with_the_field_and_the_sizes(data):
    with pytest.raises(UserError, match=r"data.placement is 'device'.* take 2 MB .* has 1 MB free; expected 'host'"):
        fits_on_devices(data('device'), SLICES, devices(10**9, 10**6))


def test_a_device_that_runs_out_of_memory_is_the_same_error(config, monkeypatch):
    def refuse(*_):
        raise jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes')

    monkeypatch.setattr(placement.jax, 'device_put', refuse)
    with pytest.raises(UserError, match=r"data.placement is 'device'"):
        ResidentSlices(SliceStore(Path(config.data.store)), np.arange(4), 'tumor', make_mesh())
