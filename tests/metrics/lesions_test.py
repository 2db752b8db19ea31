"""Lesions by hand: pieces, partners, sizes; the joining of LiTS; panoptic quality; FROC."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.measure import label, regionprops

from liver_jax.metrics import lesions as pieces
from liver_jax.metrics.froc import Candidates, find_candidates, froc


def line(*parts, length=40):
    """A mask along one row with ones in each part (start, stop)."""
    mask = np.zeros((1, 1, length), bool)
    for start, stop in parts:
        mask[..., start:stop] = True
    return mask


def matched(reference, prediction):
    truth, guess = pieces.find_lesions(reference), pieces.find_lesions(prediction)
    pairs = pieces.find_pairs(truth, guess)
    groups = pieces.join_as_lits(truth, guess, pairs)
    return truth, guess, pairs, groups, pieces.found_lesions(truth, guess, pairs, groups)


def found(reference, prediction):
    """By rule: the reference lesions found and the predicted ones that are right, as lists of 0 and 1."""
    return {rule: [list(map(int, side)) for side in both] for rule, both in matched(reference, prediction)[4].items()}


def test_diagonal_neighbours_are_one_piece():
    mask = np.zeros((2, 2, 4), bool)
    mask[0, 0, 0] = mask[1, 1, 1] = mask[0, 0, 3] = True
    assert sorted(pieces.find_lesions(mask).voxels) == [1, 2]


def test_iou_of_just_a_half_does_not_count():
    assert found(line((0, 4)), line((0, 2)))['iou50'] == [[0], [0]]
    assert found(line((0, 4)), line((0, 3)))['iou50'] == [[1], [1]]


def test_one_common_voxel_counts_above_zero():
    assert found(line((0, 10), (20, 30)), line((9, 12), (35, 36))) == {
        'iou0': [[1, 0], [1, 0]],
        'iou50': [[0, 0], [0, 0]],
        'lits': [[0, 0], [0, 0]],
    }


def test_a_lesion_predicted_in_two_pieces():
    # 10 voxels, of which 4 and 5 are predicted: IoU 4/10 and 5/10 apart, 9/10 together.
    result = found(line((0, 10)), line((0, 4), (5, 10)))
    assert result == {'iou0': [[1], [1, 1]], 'iou50': [[0], [0, 0]], 'lits': [[1], [1, 1]]}


def test_two_lesions_predicted_as_one():
    # 4 and 10 voxels with one between them, predicted as 15: IoU 10/15 with the larger, 14/15 with both.
    result = found(line((0, 4), (5, 15)), line((0, 15)))
    assert result == {'iou0': [[1, 1], [1]], 'iou50': [[0, 1], [1]], 'lits': [[1, 1], [1]]}


def test_dice_of_a_lesion_is_with_all_that_meets_it():
    truth, guess, pairs, *_ = matched(line((0, 10), (20, 30)), line((0, 4), (8, 12)))
    assert pieces.lesion_dices(truth, guess, pairs).tolist() == [2 * (4 + 2) / (10 + 8), 0]


def test_nothing_on_either_side():
    for reference, prediction in ((line(), line()), (line((0, 3)), line()), (line(), line((0, 3)))):
        result = found(reference, prediction)
        assert not any(any(side) for both in result.values() for side in both)
        assert {len(both[0]) for both in result.values()} == {int(reference.any())}


def test_counts_by_size_and_scores_by_hand():
    # Reference: 5 mm found, 10 mm missed, 30 mm found. Predicted: 5 mm right, 9.9 mm wrong, 20 mm right, 20.1 mm wrong.
    sizes = np.array([5.0, 10.0, 30.0]), np.array([5.0, 9.9, 20.0, 20.1])
    right = np.array([True, False, True, False])
    counts = pieces.count_detections(np.array([True, False, True]), right, sizes)
    assert counts == {
        'all': [3, 2, 4, 2],
        'under_10mm': [1, 1, 2, 1],
        '10_to_20mm': [1, 0, 1, 1],
        'over_20mm': [1, 1, 1, 0],
    }
    assert pieces.detection_scores(counts['all']) == pytest.approx({'precision': 2 / 4, 'recall': 2 / 3, 'f1': 4 / 7})
    assert all(np.isnan(value) for value in pieces.detection_scores([0, 0, 0, 0]).values())


def test_panoptic_quality_by_hand():
    # IoU 0.8 and 0.6 of 3 lesions and 2 predicted: 1.4 / (2 + 0/2 + 1/2).
    assert pieces.panoptic_scores(1.4, [3, 2, 2, 2]) == pytest.approx({'pq': 1.4 / 2.5, 'sq': 1.4 / 2, 'rq': 2 / 2.5})


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_scikit_image_finds_the_same_pieces(seed):
    mask = np.random.default_rng(seed).random((5, 7, 6)) < 0.15
    own = pieces.find_lesions(mask)
    peer = label(mask, connectivity=3)
    assert sorted(own.voxels) == sorted(int(region.num_pixels) for region in regionprops(peer))
    assert len(np.unique(np.stack([own.numbers[mask], peer[mask]]), axis=1).T) == len(own.voxels)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1))
def test_the_numbers_of_pieces_do_not_matter(seed):
    rng = np.random.default_rng(seed)
    reference, prediction = (ndimage.gaussian_filter(each, 1) > 0.52 for each in rng.random((2, 8, 10, 9)))
    truth, guess, pairs, groups, result = matched(reference, prediction)
    # Where two overlaps are equal the smaller piece wins, and only where these are equal too does the order decide.
    keys = list(zip(pairs.reference, pairs.voxels, guess.voxels[pairs.prediction], strict=True))
    assume(len(set(keys)) == len(keys))
    assume(len(set(truth.voxels)) == len(truth.voxels))
    orders = [rng.permutation(len(each.voxels)) for each in (truth, guess)]
    shuffled = []
    for each, order in zip((truth, guess), orders, strict=True):
        numbers = np.append(0, np.argsort(order) + 1)[each.numbers]
        shuffled.append(pieces.Lesions(numbers, each.voxels[order], [each.boxes[i] for i in order]))
    pairs = pieces.find_pairs(*shuffled)
    again = pieces.found_lesions(*shuffled, pairs, pieces.join_as_lits(*shuffled, pairs))
    for rule in pieces.RULES:
        for side, order, before in zip(again[rule], orders, result[rule], strict=True):
            np.testing.assert_array_equal(side, before[order])
    assert sorted(again_iou := pieces.join_as_lits(*shuffled, pairs).iou) == pytest.approx(sorted(groups.iou))
    assert ((again_iou >= 0) & (again_iou <= 1)).all()


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_partners_above_a_half_are_unique_and_scores_mirror(seed):
    rng = np.random.default_rng(seed)
    reference, prediction = (ndimage.gaussian_filter(each, 1) > 0.52 for each in rng.random((2, 8, 10, 9)))
    _, _, pairs, _, result = matched(reference, prediction)
    good = pairs.iou > 0.5
    assert len(set(pairs.reference[good])) == len(set(pairs.prediction[good])) == good.sum()
    mirrored = matched(prediction, reference)[4]
    for rule in ('iou0', 'iou50'):
        np.testing.assert_array_equal(mirrored[rule][0], result[rule][1])
        np.testing.assert_array_equal(mirrored[rule][1], result[rule][0])


def test_diameters_by_hand():
    mask = np.zeros((4, 20, 20), bool)
    mask[0, 0, 0] = True  # one voxel: its longer side
    mask[2, 5:9, 4:7] = True
    mask[1, 5, 5] = True  # the same lesion, shorter there
    found, planes = pieces.longest_axial_diameters(pieces.find_lesions(mask), (5.0, 1.0, 0.5))
    # 4 rows of 1 mm, 3 columns of 0.5 mm: from the top face of a corner voxel to the bottom face of the other corner.
    assert sorted(found) == pytest.approx([1.0, np.hypot(4, 1)])
    assert planes[np.argsort(found)].tolist() == [0, 2]


@pytest.mark.parametrize('diameter', [6.0, 15.0, 31.0])
def test_the_diameter_of_a_ball_is_right_to_a_voxel(diameter):
    z, y, x = (np.arange(64) * mm - 20 for mm in (2.0, 0.7, 0.7))
    ball = z[:, None, None] ** 2 + y[:, None] ** 2 + x**2 <= (diameter / 2) ** 2
    found, _ = pieces.longest_axial_diameters(pieces.find_lesions(ball), (2.0, 0.7, 0.7))
    assert found[0] == pytest.approx(diameter, abs=0.7)


def test_froc_by_hand():
    # Two scans, three lesions. By confidence: .9 hits, .8 wrong, .7 hits (again the first), .6 hits, .5 wrong.
    scans = [
        Candidates(np.array([0.9, 0.8, 0.7]), np.array([False, True, False]), np.array([0.9, -np.inf])),
        Candidates(np.array([0.6, 0.5]), np.array([False, True]), np.array([0.6])),
    ]
    curve = froc(scans)
    assert curve.false_positives.tolist() == [0, 0.5, 0.5, 0.5, 1]
    assert curve.sensitivity == pytest.approx([1 / 3, 1 / 3, 1 / 3, 2 / 3, 2 / 3])
    # At 1/8 and 1/4 false positives per scan 1/3, from 1/2 on 2/3.
    assert curve.score == pytest.approx((2 / 3 + 5 * 2 / 3) / 7)


def test_candidates_of_a_probability_map():
    probability = np.zeros((1, 1, 20))
    probability[..., 0:4] = 0.3, 0.9, 0.2, 0.05
    probability[..., 10:12] = 0.6
    found = find_candidates(probability, line((1, 2), (16, 18), length=20))
    assert sorted(zip(found.confidence, found.no, strict=True)) == [(0.6, True), (0.9, False)]
    assert sorted(found.best) == [-np.inf, 0.9]
    with pytest.raises(ValueError, match='NaN'):
        find_candidates(probability * np.nan, line(length=20))


def test_froc_without_lesions_or_candidates():
    nothing = find_candidates(np.zeros((1, 1, 40)), line())
    assert np.isnan(froc([nothing]).score)
    assert froc([find_candidates(np.zeros((1, 1, 40)), line((0, 3)))]).score == 0
