"""Lesions measured by hand: pixels of 2x1 mm and slices of 5 mm."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest

from liver_jax.data.formats.nifti import write_nifti
from liver_jax.data.layouts import Case
from liver_jax.data.volumes import Scan, open_scan
from liver_jax.evaluation.findings import (
    describe_findings,
    findings_csv,
    findings_text,
    measure_lesions,
)
from liver_jax.evaluation.postprocess import drop_small, keep_largest
from liver_jax.evaluation.volumes import canonical_affine, to_native

SIZE = (6, 10, 12)
# Axes of the file: towards the head, the right, the front.
AFFINE = np.array([[0, 1.0, 0, 10], [0, 0, 2.0, 20], [5.0, 0, 0, 30], [0, 0, 0, 1]])


@pytest.fixture
def scan(tmp_path: Path) -> Scan:
    write_nifti(tmp_path / 'a.nii', np.zeros((6, 12, 10), np.int16), AFFINE)
    return open_scan(Case('a', 'nifti', (tmp_path / 'a.nii',), (), ''))


def lesions_of(mask, scan, hu=None):
    return measure_lesions(mask, np.zeros(mask.sum()) if hu is None else hu[mask], scan)


def test_the_way_to_mm(scan):
    # The first slice, row and column is the last of the file's axes to the right and to the front.
    np.testing.assert_allclose(canonical_affine(scan) @ [0, 0, 0, 1], [10 + 11, 20 + 18, 30, 1])
    np.testing.assert_allclose(canonical_affine(scan) @ [1, 2, 3, 1], [21 - 3, 38 - 4, 35, 1])
    index = np.arange(720).reshape(SIZE)
    native = to_native(index, scan)
    for place in ((0, 0, 0), (5, 9, 11), (2, 3, 7)):
        there = np.argwhere(native == index[place])[0]
        np.testing.assert_allclose(AFFINE[:3, :3] @ there + AFFINE[:3, 3], (canonical_affine(scan) @ [*place, 1])[:3])


def test_a_box_by_hand(scan):
    mask = np.zeros(SIZE, bool)
    mask[1:4, 2:4, 5:10] = True  # 3 slices, 2 rows of 2 mm, 5 columns of 1 mm
    hu = np.random.default_rng(0).normal(50, 20, SIZE)
    (lesion,) = lesions_of(mask, scan, hu)
    assert (lesion.number, lesion.voxels, lesion.volume_ml, lesion.slice) == (1, 30, 0.3, 1)
    # From the middle of the upper edge of the first pixel to that of the lower edge of the last: 4 mm on, 4 mm down.
    assert lesion.longest_mm == pytest.approx(32**0.5, abs=0.01)
    np.testing.assert_allclose(lesion.centroid_mm, (21 - 7, 38 - 5, 30 + 10), atol=1e-3)
    assert lesion.mean_hu == pytest.approx(hu[mask].mean(), abs=0.06)


def test_pieces_that_touch_at_a_corner_are_one_and_the_largest_comes_first(scan):
    mask = np.zeros(SIZE, bool)
    mask[0, 0, 0] = mask[1, 1, 1] = True
    mask[4:, 6:9, 6:9] = True
    first, second = lesions_of(mask, scan)
    assert (first.voxels, second.voxels) == (18, 2)
    assert (first.number, second.number) == (1, 2)
    assert (first.slice, second.slice) == (4, 0)


def test_volumes_and_burden(scan):
    labels = np.zeros(SIZE, np.uint8)
    labels[:, :5] = 1
    labels[2, 2, 2:8] = 2
    found = describe_findings(labels, np.full(6, 40.0), scan, (1, 2))
    assert (found['liver_ml'], found['tumor_ml'], found['tumor_burden']) == (
        3.6,
        0.06,
        pytest.approx(6 / 360, abs=1e-6),
    )
    assert found['lesions'][0]['mean_hu'] == 40
    alone = describe_findings(np.where(labels == 2, 2, 0).astype(np.uint8), np.full(6, 40.0), scan, (2,))
    assert (alone['liver_ml'], alone['tumor_ml'], alone['tumor_burden']) == (None, 0.06, None)
    nothing = describe_findings(np.zeros(SIZE, np.uint8), np.zeros(0), scan, (1, 2))
    assert (nothing['liver_ml'], nothing['tumor_ml'], nothing['tumor_burden'], nothing['lesions']) == (0, 0, None, [])
    assert findings_text(found) == 'liver 4 ml, 1 lesion of 0.06 ml'


def test_csv_has_a_line_per_lesion_and_one_per_case_without(scan):
    labels = np.zeros(SIZE, np.uint8)
    labels[0, 0, 0] = labels[3, 3, 3] = 2
    cases = [
        {'case': name, **describe_findings(each, np.zeros((each == 2).sum()), scan, (2,))}
        for name, each in (('a,b', labels), ('c', labels * 0))
    ]
    rows = list(csv.DictReader(io.StringIO(findings_csv(cases))))
    assert [(row['case'], row['lesion'], row['voxels']) for row in rows] == [
        ('a,b', '1', '1'),
        ('a,b', '2', '1'),
        ('c', '', ''),
    ]
    assert [float(row['x_mm']) for row in rows[:2]] == [21, 18]
    assert all(None not in row for row in rows)


def test_small_pieces_and_all_but_the_largest_go():
    mask = np.zeros(SIZE, bool)
    mask[0, 0, :3] = mask[2:4, 2:4, 2:4] = mask[5, 9, 9:11] = True
    small, large = mask.copy(), mask.copy()
    drop_small(small, 3)
    assert (small.sum(), small[0, 0, :3].all(), small[5].any()) == (11, True, False)
    keep_largest(large)
    assert large.sum() == 8
    assert large[2:4, 2:4, 2:4].all()
    for function in (keep_largest, lambda empty: drop_small(empty, 5)):
        empty = np.zeros(SIZE, bool)
        function(empty)
        assert not empty.any()
