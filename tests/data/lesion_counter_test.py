"""Pieces of tumour against scipy on whole volumes, and by hand."""

import numpy as np
import pytest
from scipy import ndimage

from liver_jax.data.lesion_counter import LesionCounter

CUBE = np.ones((3, 3, 3), bool)


def count(labels):
    counter = LesionCounter()
    for plane in labels:
        counter.add(plane)
    return sorted((lesion.voxels, lesion.in_liver) for lesion in counter.finish())


def by_scipy(labels):
    pieces, n = ndimage.label(labels == 2, CUBE)
    near = ndimage.binary_dilation(labels == 1, CUBE)
    return sorted((int((pieces == k).sum()), bool((near & (pieces == k)).any())) for k in range(1, n + 1))


@pytest.mark.parametrize('seed', range(30))
def test_random_volumes_against_scipy(seed):
    rng = np.random.default_rng(seed)
    tumour, liver = rng.uniform(0.01, 0.3, 2)
    draw = rng.random((7, 9, 8))
    labels = np.where(draw < tumour, 2, np.where(draw > 1 - liver / 3, 1, 0)).astype(np.uint8)
    assert count(labels) == by_scipy(labels)
    assert count(labels[::-1]) == by_scipy(labels)


def test_pieces_that_meet_only_in_a_later_plane_are_one():
    labels = np.zeros((3, 1, 5), np.uint8)
    labels[0, 0, [0, 4]] = labels[1, 0, [1, 3]] = labels[2, 0, 2] = 2
    assert count(labels) == [(5, False)]


@pytest.mark.parametrize('liver', [(0, 1, 1), (1, 2, 2), (2, 1, 0)])
def test_liver_beside_in_the_plane_before_or_after_counts(liver):
    labels = np.zeros((3, 3, 3), np.uint8)
    labels[1, 1, 1] = 2
    assert count(labels) == [(1, False)]
    labels[liver] = 1
    assert count(labels) == [(1, True)]
