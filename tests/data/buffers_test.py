"""Memory of batches is used again, but never while anybody looks at it."""

import gc

import jax
import numpy as np

from liver_jax.data.buffers import Buffers


def address(array):
    return array.__array_interface__['data'][0]


def test_memory_is_used_again_when_the_array_is_gone():
    buffers = Buffers()
    first = buffers.take((4, 8))
    at = address(first)
    assert (first.shape, first.dtype, first.flags.writeable, first.flags.c_contiguous) == ((4, 8), np.uint8, True, True)
    del first
    assert address(buffers.take((2, 16))) == at


def test_memory_is_not_used_again_while_there_is_a_view():
    buffers = Buffers()
    view = buffers.take((4, 8))[1:3].reshape(-1).view(np.uint32)[2:]
    gc.collect()
    view[:] = 7
    for _ in range(3):
        buffers.take((4, 8))[:] = 0
    assert view.tolist() == [7, 7]


def test_sizes_do_not_mix():
    buffers = Buffers()
    del (first := {'large': buffers.take((100,))})['large']
    assert buffers.take((99,)).size == 99
    assert first == {}


def test_a_device_keeps_what_it_was_given():
    buffers = Buffers()
    device = []
    for value in range(20):
        host = buffers.take((8, 1024))
        host[:] = value
        device.append(jax.device_put(host))
        del host
    assert [int(each.min()) for each in device] == [int(each.max()) for each in device] == list(range(20))
