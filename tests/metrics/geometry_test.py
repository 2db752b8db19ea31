"""Boxes and diameters by hand: pixels of 2x1 mm."""

import itertools

import numpy as np
import pytest

from liver_jax.metrics.geometry import axial_diameters, bounding_box


def test_a_box_holds_all_that_is_filled():
    first, second = np.zeros((2, 5, 6, 7), bool)
    first[1, 2, 3] = second[4, 2, 5] = True
    assert bounding_box(first, second) == (slice(1, 5), slice(2, 3), slice(3, 6))
    assert bounding_box(np.zeros((3, 3, 3), bool)) == (slice(0, 1),) * 3


@pytest.mark.parametrize(
    ('rows', 'columns', 'longest', 'across'),
    [(1, 1, 2.0, 1.0), (1, 10, 10.0, 2.0), (7, 1, 14.0, 1.0)],
    ids=['pixel', 'lying bar', 'standing bar'],
)
def test_bars_are_as_long_as_their_pixels(rows, columns, longest, across):
    piece = np.zeros((2, 10, 12), bool)
    piece[1, :rows, :columns] = True
    assert axial_diameters(piece, (2.0, 1.0)) == (1, pytest.approx(longest), pytest.approx(across))


def test_discs_and_ellipses_have_their_diameters():
    rows, columns = np.mgrid[:60, :60] - 30.0
    disc = (rows * 0.5) ** 2 + columns**2 < 12**2
    assert axial_diameters(disc[None], (0.5, 1.0))[1:] == pytest.approx((24, 24), abs=1)
    ellipse = ((rows + columns) / 20) ** 2 + ((rows - columns) / 10) ** 2 < 1  # half axes 20 and 10 over the root of 2
    assert axial_diameters(ellipse[None], (1.0, 1.0))[1:] == pytest.approx((40 / 2**0.5, 20 / 2**0.5), abs=1)


def test_the_longest_diameter_is_the_longest_of_all_pairs():
    rng = np.random.default_rng(2)
    for _ in range(20):
        plane = rng.random((7, 8)) < 0.3
        plane[3, 3] = True
        places = np.argwhere(plane)
        corners = (places[:, None] + [(-0.5, 0), (0.5, 0), (0, -0.5), (0, 0.5)]).reshape(-1, 2) * (0.7, 0.9)
        expected = max(np.linalg.norm(one - other) for one, other in itertools.combinations(corners, 2))
        assert axial_diameters(plane[None], (0.7, 0.9))[1] == pytest.approx(expected)
