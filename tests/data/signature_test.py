"""The signature knows a person again, and takes nobody for somebody else."""

import numpy as np
import pytest
from scipy import ndimage

from body import SPACING, body, second_visit
from liver_jax.data.signature import SAME, SignatureBuilder, similarities, similarity


def sign(hu, spacing=SPACING):
    builder = SignatureBuilder(hu.shape, spacing)
    for index in np.random.default_rng(0).permutation(len(hu)):
        builder.add(index, hu[index])
    return builder.finish()


@pytest.fixture(scope='module')
def people():
    return [body(seed) for seed in range(6)]


def test_a_second_visit_is_known_again_and_strangers_are_not(people):
    signatures = [sign(hu) for hu in people]
    for hu, own in zip(people, signatures, strict=True):
        later = sign(second_visit(hu))
        alike = [similarity(each, later) for each in signatures]
        assert similarity(own, later) == max(alike) > SAME
        assert sorted(alike)[-2] < SAME


@pytest.mark.parametrize('piece', [np.s_[:11], np.s_[9:], np.s_[::2]], ids=['feet', 'head', 'every other slice'])
def test_a_piece_of_a_scan_is_known_again(people, piece):
    spacing = (SPACING[0] * (2 if piece.step else 1), *SPACING[1:])
    assert similarity(sign(people[0]), sign(people[0][piece], spacing)) > SAME


def test_another_grid_table_or_place_does_not_matter(people):
    hu = people[1]
    finer = ndimage.zoom(hu, (2, 1.25, 1.25), order=1)
    assert similarity(sign(hu), sign(finer, (4.0, 4.0, 4.0))) > SAME
    moved = np.roll(hu, (4, 5), (1, 2))
    moved[:, 60:] = 200  # the table
    assert similarity(sign(hu), sign(moved)) > SAME


def test_similarity_by_hand():
    first, second = np.zeros((3, 4, 4)), np.zeros((3, 4, 4))
    first[1, 1, 1:3] = 1, -1
    second[1, 2, 0:2] = 2, -2  # the same, elsewhere and twice as strong
    assert similarity(first, second) == pytest.approx(1, abs=1e-5)
    second[1, 2, 0:2] = 2, 2
    # the best that can be: one voxel over the other, 1 * 2 / (sqrt(2) * sqrt(8))
    assert similarity(first, second) == pytest.approx(0.5, abs=1e-5)


def test_of_small_scans_nothing_is_said():
    assert sign(np.zeros((22, 64, 64), np.int16), (8.0, 2.0, 2.0)) is None
    assert sign(np.zeros((4, 64, 64), np.int16)) is None
    alike = similarities([None, None, None], ['a', 'b', 'a'])
    assert alike[0, 2] == alike[2, 0] == 1
    assert np.isnan(alike[0, 1])
