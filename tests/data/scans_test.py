"""Scans to predict on, wherever they lie and whatever they are called."""

import shutil

import numpy as np
import pytest

from liver_jax.data.formats.nifti import write_nifti
from liver_jax.data.scans import find_scans
from liver_jax.errors import UserError
from small_ct import write_case
from small_dicom import enhanced, save_all, segmentation, slices, small_hu, write_series


def nifti(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_nifti(path, np.zeros((3, 4, 5), np.int16), np.eye(4))
    return path


def names(source):
    cases, damaged = find_scans(source)
    assert not damaged
    assert all(not case.labels for case in cases)
    return [(case.name, case.kind, len(case.images)) for case in cases]


def test_one_file_of_any_name(tmp_path):
    assert names(nifti(tmp_path / 'my scan (2).nii.gz')) == [('my_scan__2_', 'nifti', 1)]
    assert names(nifti(tmp_path / 'segmentation-3.nii')) == [('segmentation-3', 'nifti', 1)]


def test_a_folder_of_files_in_the_order_of_numbers(tmp_path):
    for name in ('p10.nii', 'p2.nii.gz', 'deep/er/x.nii', '.hidden.nii'):
        nifti(tmp_path / name)
    (tmp_path / 'notes.txt').write_text('x')
    assert [name for name, *_ in names(tmp_path)] == ['p2', 'p10', 'x']


def test_labels_of_lits_are_left_aside(tmp_path):
    write_case(tmp_path, 4)
    nifti(tmp_path / 'imagesTr' / 'liver_1.nii.gz')
    nifti(tmp_path / 'labelsTr' / 'liver_1.nii.gz')
    assert [name for name, *_ in names(tmp_path)] == ['liver_1', 'volume-4']


def test_names_are_unique_and_fit_for_files(tmp_path):
    for name in ('a/ct.nii', 'b/ct.nii', 'a-ct.nii', '<script>$(x).nii', "=1+1;'.nii"):
        nifti(tmp_path / name)
    found = [name for name, *_ in names(tmp_path)]
    assert sorted(found) == ['_1_1__', '_script___x_', 'a-ct', 'a-ct-2', 'b-ct']


def test_dicom_series_one_or_many_their_segmentations_left_aside(tmp_path):
    made = slices(small_hu())
    save_all(tmp_path / 'one', made)
    save_all(tmp_path / 'one' / 'seg', [segmentation(made, {'Spleen': np.ones(small_hu().shape, bool)})])
    save_all(tmp_path / 'stray', [segmentation(slices(small_hu(1)), {'Tumor': np.ones(small_hu().shape, bool)})])
    assert names(tmp_path / 'one') == [('one', 'dicom', 12)]
    (file,) = save_all(tmp_path / 'two', [enhanced(small_hu(2))])
    assert names(tmp_path) == [('one', 'dicom', 12), ('two', 'dicom', 1)]
    assert names(file) == [('two', 'dicom', 1)]
    nifti(tmp_path / 'one.nii')
    assert [name for name, *_ in names(tmp_path)] == ['one', 'one-2', 'two']


def test_a_damaged_dicom_file_takes_its_folder_out_and_nothing_else(tmp_path):
    write_series(tmp_path / 'good', small_hu(1))
    files = write_series(tmp_path / 'bad', small_hu(2))
    files[4].write_bytes(files[4].read_bytes()[:300])
    cases, damaged = find_scans(tmp_path)
    assert [case.name for case in cases] == ['good']
    assert len(damaged) == 1
    assert str(files[4]) in str(damaged[0])
    shutil.rmtree(tmp_path / 'good')
    with pytest.raises(UserError, match=files[4].name):
        find_scans(tmp_path)


def test_nothing_to_predict_on_is_said(tmp_path):
    with pytest.raises(UserError, match=r'--input=.*: no scan among 0 files; expected \.nii'):
        find_scans(tmp_path)
    with pytest.raises(UserError, match='no such file or folder'):
        find_scans(tmp_path / 'gone')
    (tmp_path / 'a.zip').write_text('x')
    with pytest.raises(UserError, match='no scan among 1 files'):
        find_scans(tmp_path / 'a.zip')
