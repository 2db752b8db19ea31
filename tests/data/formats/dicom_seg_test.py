"""DICOM-SEG as written: read back, and checked by dciodvfy where it is installed."""

import os
import shutil
import subprocess

import numpy as np
import pydicom
import pytest

from liver_jax.data.formats.dicom import read_segmentation, read_series
from liver_jax.data.formats.dicom_seg import write_segmentation
from liver_jax.errors import UserError
from small_dicom import COLUMNS, ROWS, SLICES, enhanced, save_all, small_hu, write_series

LABELS = np.zeros((COLUMNS, ROWS, SLICES), np.uint8)
LABELS[5:15, 4:20, 3:9] = 1
LABELS[12:17, 8:12, 5:10] = 2


def write(folder, files, labels=LABELS, meanings=(1, 2)):
    series = read_series(files)
    write_segmentation(folder / 'out.dcm', files, series, labels, meanings, 'unet')
    return series, folder / 'out.dcm'


def back(series, path):
    return np.stack(list(read_segmentation((path,), series).planes()), axis=-1)


def check_standard(path):
    if not shutil.which('dciodvfy'):
        return
    said = subprocess.run(['dciodvfy', str(path)], capture_output=True, text=True)
    assert 'Error' not in said.stderr + said.stdout
    assert 'Segmentation' in said.stderr + said.stdout


@pytest.mark.parametrize('meanings', [(1, 2), (2,), (1,)])
def test_it_reads_back_as_it_was_and_is_to_the_standard(meanings, tmp_path):
    labels = np.where(np.isin(LABELS, meanings), LABELS, 0).astype(np.uint8)
    series, path = write(tmp_path, write_series(tmp_path / 'ct', small_hu()), labels, meanings)
    np.testing.assert_array_equal(back(series, path), labels)
    check_standard(path)
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ['out.dcm']


def test_dciodvfy_is_there_where_nothing_may_be_skipped():
    tool = shutil.which('dciodvfy')
    if not tool:
        pytest.skip('dciodvfy is not installed (Debian: dicom3tools)')
    assert os.access(tool, os.X_OK)


def test_an_enhanced_series_and_one_with_copies(tmp_path):
    series, path = write(tmp_path, save_all(tmp_path / 'ct', [enhanced(small_hu())]))
    np.testing.assert_array_equal(back(series, path), LABELS)
    files = write_series(tmp_path / 'two', small_hu())
    copy = shutil.copy(files[3], tmp_path / 'two' / 'copy')
    series, path = write(tmp_path, (*files, copy))
    np.testing.assert_array_equal(back(series, path), LABELS)


def test_a_series_of_several_files_of_many_frames(tmp_path):
    def part(numbers):
        one = enhanced(small_hu())
        own = one.PixelData
        size = len(own) // SLICES
        one.PerFrameFunctionalGroupsSequence = [one.PerFrameFunctionalGroupsSequence[number] for number in numbers]
        one.PixelData = b''.join(own[number * size : (number + 1) * size] for number in numbers)
        one.NumberOfFrames = len(numbers)
        one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
        return one

    parts = [part(range(0, SLICES, 2)), part(range(1, SLICES, 2))]
    for one in parts:
        one.StudyInstanceUID, one.SeriesInstanceUID = parts[0].StudyInstanceUID, parts[0].SeriesInstanceUID
        one.FrameOfReferenceUID = parts[0].FrameOfReferenceUID
    series, path = write(tmp_path, save_all(tmp_path / 'ct', parts))
    np.testing.assert_array_equal(back(series, path), LABELS)
    check_standard(path)
    (referenced,) = pydicom.dcmread(path).ReferencedSeriesSequence
    instances = {item.ReferencedSOPInstanceUID for item in referenced.ReferencedInstanceSequence}
    assert instances == {one.SOPInstanceUID for one in parts}


def test_an_empty_segmentation_has_all_frames(tmp_path):
    series, path = write(tmp_path, write_series(tmp_path / 'ct', small_hu()), LABELS * 0, (2,))
    assert not back(series, path).any()
    assert pydicom.dcmread(path).NumberOfFrames == SLICES


def test_headers_without_what_may_be_empty(tmp_path):
    def strip(made):
        for one in made:
            for name in (
                'PatientID',
                'PatientName',
                'PatientBirthDate',
                'StudyID',
                'StudyDate',
                'ReferringPhysicianName',
            ):
                delattr(one, name)
            one.PatientSex = 'W'

    series, path = write(tmp_path, write_series(tmp_path / 'ct', small_hu(), strip))
    np.testing.assert_array_equal(back(series, path), LABELS)
    check_standard(path)


def test_what_cannot_be_written_is_one_line(tmp_path):
    def spoil(made):
        for one in made:
            del one.FrameOfReferenceUID
            one.StudyDescription = '<script>alert(1)</script>\n\x1b[31m'

    files = write_series(tmp_path / 'ct', small_hu(), spoil)
    with pytest.raises(UserError, match=r'ct: no DICOM-SEG can be made for this series \(.*\); its NIfTI') as refusal:
        write(tmp_path, files)
    assert str(refusal.value).isprintable()
    assert not list(tmp_path.glob('*.dcm*'))
