"""Surface scores against distances worked by hand, against peers, and what must not change them."""

import itertools

import numpy as np
import pytest
import surface_distance
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.metrics import hausdorff_distance

from liver_jax.metrics.surfaces import border, element_scores, surface_scores

SPACING = (2.5, 0.7, 0.9)


def blobs(seed, shape=(9, 12, 10)):
    """Two random masks, neither empty, that reach the ends of the array."""
    noise = np.random.default_rng(seed).random((2, *shape))
    smooth = [ndimage.gaussian_filter(each, 1.0, mode='wrap') for each in noise]
    return [each > np.quantile(each, 0.7) for each in smooth]


def one_voxel(*place):
    mask = np.zeros((8, 8, 8), bool)
    mask[place] = True
    return mask


def test_two_voxels_by_hand():
    # 1 voxel of 2 mm and 2 of 1.5 mm apart: sqrt(4 + 9) mm, from either side.
    scores = surface_scores(one_voxel(1, 1, 1), one_voxel(2, 3, 1), (2.0, 1.5, 1.0))
    for name in ('assd', 'rmsd', 'msd', 'hd95'):
        assert scores[name] == pytest.approx(np.sqrt(13), abs=1e-12)
    assert scores['nsd_1mm'] == 0


def test_pooled_distances_by_hand():
    # One voxel beside a row of three: 0 from the one; 0, 1, 2 mm from the row. Four border voxels in all.
    row = one_voxel(4, 4, 4) | one_voxel(4, 4, 5) | one_voxel(4, 4, 6)
    scores = surface_scores(one_voxel(4, 4, 4), row, (1.0, 1.0, 1.0))
    assert scores['assd'] == pytest.approx(3 / 4)
    assert scores['rmsd'] == pytest.approx(np.sqrt(5 / 4))
    assert scores['msd'] == 2


def test_surface_dice_of_a_shifted_plate_by_hand():
    # Plates of 200 x 200 x 3 mm, one 1.5 mm above the other: their faces, 80,000 mm² each, are 1.5 mm apart. Only the
    # rim, 4 x 200 x 3 mm² or 3 % of the surface, comes nearer.
    plates = np.zeros((2, 6, 200, 200), bool)
    plates[0, 1:3], plates[1, 2:4] = True, True
    scores = surface_scores(*plates, (1.5, 1.0, 1.0))
    assert 0.01 < scores['nsd_1mm'] < 0.04
    assert scores['nsd_2mm'] == 1


def test_a_distance_of_just_the_tolerance_is_within_it_wherever_it_lies():
    plates = np.zeros((2, 30, 4, 4), bool)
    for first in range(1, 15):  # 5 x 0.2 mm is 1 mm, but 3.6 - 2.6 is more in floating point
        plates[:] = False
        plates[0, first : first + 10], plates[1, first + 5 : first + 15] = True, True
        assert element_scores(*plates, (0.2, 1.0, 1.0))['nsd_1mm'] == 1


def test_border_of_a_cube_by_hand():
    cube = np.zeros((5, 5, 5), bool)
    cube[1:4, 1:4, 1:4] = True
    assert border(cube).sum() == 26
    cube[1, 1, 1] = False  # a corner is no neighbour among the 18: the middle stays inside
    assert not border(cube)[2, 2, 2]
    cube[1, 1, 2] = False  # an edge is
    assert border(cube)[2, 2, 2]
    assert border(np.ones((3, 3, 3), bool)).sum() == 26  # outside of the array is background


@pytest.mark.parametrize(
    ('swap', 'nsd'), [(False, 0.0), (True, 0.0), (None, None)], ids=['prediction', 'reference', 'both']
)
def test_empty_masks_have_no_distance(swap, nsd):
    masks = [np.zeros((8, 8, 8), bool), one_voxel(1, 1, 1) if swap is not None else np.zeros((8, 8, 8), bool)]
    scores = surface_scores(*(masks[::-1] if swap else masks), SPACING)
    assert all(np.isnan(scores[name]) for name in ('assd', 'rmsd', 'msd', 'hd95'))
    found = {None if np.isnan(scores[name]) else scores[name] for name in ('nsd_1mm', 'nsd_2mm')}
    assert found == {nsd}


@pytest.mark.filterwarnings('ignore::DeprecationWarning')
@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1))
def test_surface_distance_agrees(seed):
    prediction, reference = blobs(seed)
    scores = surface_scores(prediction, reference, SPACING)
    distances = surface_distance.compute_surface_distances(reference, prediction, SPACING)
    assert scores['hd95'] == pytest.approx(surface_distance.compute_robust_hausdorff(distances, 95), abs=1e-9)
    for tolerance in (1, 2):
        expected = surface_distance.compute_surface_dice_at_tolerance(distances, tolerance)
        assert scores[f'nsd_{tolerance}mm'] == pytest.approx(expected, abs=1e-9)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1))
def test_scikit_image_agrees(seed):
    prediction, reference = blobs(seed)
    even = surface_scores(prediction, reference, (1.0, 1.0, 1.0))
    assert even['msd'] == pytest.approx(hausdorff_distance(border(prediction), border(reference)), abs=1e-9)


def test_erosion_is_scipys():
    element = ndimage.generate_binary_structure(3, 2)
    for seed in range(10):
        mask = blobs(seed)[0]
        np.testing.assert_array_equal(border(mask), mask & ~ndimage.binary_erosion(mask, element))


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1), st.sampled_from(list(itertools.permutations(range(3)))), st.integers(0, 7))
def test_which_comes_first_and_how_the_volume_lies_do_not_matter(seed, order, flips):
    prediction, reference = blobs(seed)
    scores = surface_scores(prediction, reference, SPACING)
    assert surface_scores(reference, prediction, SPACING) == pytest.approx(scores, abs=1e-9)
    axes = [axis for axis in range(3) if flips >> axis & 1]
    turned = [np.flip(mask, axes).transpose(order) for mask in (prediction, reference)]
    assert surface_scores(*turned, tuple(SPACING[axis] for axis in order)) == pytest.approx(scores, abs=1e-9)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1), st.floats(0.1, 10))
def test_distances_grow_with_the_spacing(seed, factor):
    masks = blobs(seed)
    scores = surface_scores(*masks, SPACING)
    larger = surface_scores(*masks, tuple(factor * mm for mm in SPACING))
    for name in ('assd', 'rmsd', 'msd', 'hd95'):
        assert larger[name] == pytest.approx(factor * scores[name], rel=1e-9)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_space_around_the_masks_does_not_matter(seed):
    masks = blobs(seed)
    wide = [np.pad(mask, ((2, 3), (0, 4), (1, 0))) for mask in masks]
    assert surface_scores(*wide, SPACING) == pytest.approx(surface_scores(*masks, SPACING), abs=1e-9)
    assert surface_scores(masks[0], masks[0], SPACING) == {
        'assd': 0, 'rmsd': 0, 'msd': 0, 'hd95': 0, 'nsd_1mm': 1, 'nsd_2mm': 1,
    }  # fmt: skip
