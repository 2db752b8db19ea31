"""Verdicts: each finding on a scan that has it, and silence on one that has none."""

import dataclasses
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from body import AFFINE, body, labels_of
from liver_jax.data.examine import Examination, Examiner
from liver_jax.data.layouts import Case
from liver_jax.data.volumes import open_scan


@pytest.fixture(scope='module')
def hu():
    return body(0)


@pytest.fixture(scope='module')
def labels(hu):
    return labels_of(hu)


def examine(folder: Path, hu, labels, affine=AFFINE, label_affine=None, ending='.nii.gz') -> Examination:
    image, label = folder / f'volume-0{ending}', folder / f'segmentation-0{ending}'
    nib.save(nib.Nifti1Image(hu.transpose(2, 1, 0), affine), image)
    if labels is not None:
        nib.save(nib.Nifti1Image(labels.transpose(2, 1, 0), affine if label_affine is None else label_affine), label)
    scan = open_scan(Case('volume-0', 'nifti', (image,), (label,) if labels is not None else (), ''))
    examiner = Examiner(scan)
    for plane in scan.planes():
        examiner.add(plane)
    return examiner.finish()


def check(found: Examination, verdict: str, *words: str) -> None:
    assert found.verdict == verdict, found.reasons
    for word in words:
        assert any(word in reason for reason in found.reasons), (word, found.reasons)


NORMAL = np.diag([-0.8, -0.8, 2.5, 1.0])


def test_nothing_is_said_of_a_sound_case_and_its_numbers_are_right(tmp_path, hu, labels):
    found = examine(tmp_path, hu, labels, NORMAL)
    check(found, 'ok')
    assert found.reasons == []
    voxel = 0.8 * 0.8 * 2.5 / 1000
    assert found.liver_ml == round((labels > 0).sum() * voxel, 3)
    assert found.tumor_ml == round((labels == 2).sum() * voxel, 3) == round(32 * voxel, 3)
    assert found.lesions == 1
    assert found.liver_hu == pytest.approx(hu[labels == 1].mean(), abs=0.051)
    assert found.hu_range == (hu.min(), hu.max())
    assert found.signature is None  # 51 mm are too few


@pytest.mark.parametrize(
    ('change', 'verdict', 'said'),
    [
        (lambda hu: np.full_like(hu, -160), 'refuse', 'all values lie from -160 to -160'),
        (lambda hu: hu + 1024, 'refuse', 'HU in the liver on average; expected 0 to 250'),
        (lambda hu: hu - 120, 'warn', 'HU in the liver on average; expected 0 to 250'),
        (lambda hu: np.where(hu == hu.min(), -10522, hu).astype(np.int16), 'warn', 'HU from -10522 to'),
        (lambda hu: np.clip(hu, 0, 255), 'warn', 'no value below 0 (from 0 to 255): these may be no HU'),
    ],
    ids=['constant', 'an offset of 1024', 'too dark', 'out of range', 'a picture'],
)
def test_values_that_are_no_ct(tmp_path, hu, labels, change, verdict, said):
    check(examine(tmp_path, change(hu), labels, NORMAL), verdict, said)


def test_padding_outside_the_field_of_view_is_no_fault(tmp_path, hu, labels):
    check(examine(tmp_path, np.where(hu < -900, -3024, hu).astype(np.int16), labels, NORMAL), 'ok')


@pytest.mark.parametrize(
    ('affine', 'label_affine', 'said'),
    [
        (np.eye(4), None, 'identity affine'),
        (NORMAL, np.diag([0.8, 0.8, 2.5, 1.0]), 'mm apart by their affines; they are aligned by array index'),
        (NORMAL * [4, 4, 1, 1], None, '3.2 mm per pixel'),
        (NORMAL * [0.1, 0.1, 1, 1], None, '0.08 mm per pixel'),
        (NORMAL * [1, 1, 6, 1], None, '15 mm per slice'),
    ],
)
def test_geometry_that_is_odd(tmp_path, hu, labels, affine, label_affine, said):
    check(examine(tmp_path, hu, labels, affine, label_affine), 'warn', said)


def test_labels_that_are_odd(tmp_path, hu, labels):
    outside = labels.copy()
    outside[5, 50:54, 50:54] = 2
    check(examine(tmp_path, hu, outside, NORMAL), 'warn', '1 of 2 lesions touch no liver (16 voxels)')
    speck = labels.copy()
    speck[9, 21, 16] = 2
    check(examine(tmp_path, hu, speck, NORMAL), 'warn', '1 of 2 lesions have fewer than 5 voxels')
    check(
        examine(tmp_path, hu, np.minimum(labels, 1), NORMAL), 'warn', "no tumour: it gives no slice with data.slices='t"
    )
    check(examine(tmp_path, hu, np.where(labels == 2, 2, 0).astype(np.uint8), NORMAL), 'warn', 'tumour but no liver')
    check(examine(tmp_path, hu, np.zeros_like(labels), NORMAL), 'warn', 'nothing is labelled')
    check(examine(tmp_path, hu, None, NORMAL), 'warn', 'no labels: it can be predicted on')


def test_the_content_is_the_same_for_copies_and_another_for_one_voxel(tmp_path, hu, labels):
    first = examine(tmp_path, hu, labels)
    turned = AFFINE * [1, -1, -1, 1]
    copies = [
        examine(tmp_path, hu, labels, ending='.nii'),
        examine(tmp_path, hu.astype(np.float32), labels),
        examine(tmp_path, hu[::-1, ::-1], labels[::-1, ::-1], turned),
        examine(tmp_path, hu, None),
    ]
    assert {copy.content for copy in copies} == {first.content}
    other = hu.copy()
    other[3, 4, 5] += 1
    assert examine(tmp_path, other, labels).content != first.content
    assert examine(tmp_path, hu[:-1], labels[:-1]).content != first.content


def test_it_describes_itself_as_plain_data(tmp_path, hu, labels):
    described = examine(tmp_path, hu, labels).describe()
    names = {field.name for field in dataclasses.fields(Examination)} - {'content', 'labels', 'signature'}
    assert described.keys() == names | {'content_sha256', 'labels_sha256'}
