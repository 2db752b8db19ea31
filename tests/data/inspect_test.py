"""A folder inspected: every quirk of the field notes on disk, patients, duplicates, and what people see."""

import json

import matplotlib.image
import numpy as np
import pytest
from prepare_test import settings

from body import AFFINE, body, labels_of, second_visit, write_body
from liver_jax.data.formats.nifti import write_nifti
from liver_jax.data.inspect import inspect_folder
from liver_jax.errors import UserError
from liver_jax.report.inspection import draw_sheet, inspection_text


def inspect(root, **fields):
    return inspect_folder(settings(root, raw=str(root), **fields), 64)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Ann twice, Bo, Cy; Bo's scan once more under another number; one cut short; labels that are none."""
    raw = tmp_path_factory.mktemp('raw')
    ann, bo, cy = body(0), body(1), body(2)
    write_body(raw, 0, ann)
    write_body(raw, 1, second_visit(ann))
    write_body(raw, 2, bo)
    write_body(raw, 3, cy)
    write_body(raw, 4, bo)
    write_body(raw, 5, body(3))
    cut = raw / 'volume-5.nii.gz'
    cut.write_bytes(cut.read_bytes()[:5000])
    write_body(raw, 6, body(4), labels_of(cy) * 3)
    return raw


@pytest.fixture(scope='module')
def inspected(folder):
    return inspect(folder)


def test_every_case_has_a_verdict_and_reasons(inspected):
    report, _ = inspected
    assert [case['case'] for case in report['cases']] == [f'volume-{k}' for k in range(7)]
    assert [case['verdict'] for case in report['cases']] == ['warn'] * 5 + ['refuse'] * 2  # 5 mm pixels are wide
    reasons = {case['case']: ' '.join(case['reasons']) for case in report['cases']}
    assert 'the same scan as volume-4; keep one, it counts 2 times' in reasons['volume-2']
    assert 'the same scan as volume-2; keep one, it counts 2 times' in reasons['volume-4']
    assert 'same scan' not in reasons['volume-0'] + reasons['volume-3']
    assert 'volume-5.nii.gz: its voxels cannot be read' in reasons['volume-5']
    assert 'labels 3, 6; expected only 0' in reasons['volume-6'] or 'labels 3; expected only' in reasons['volume-6']


def test_patients_are_found_and_it_is_said_how_sure(inspected):
    report, _ = inspected
    groups = {group['patient']: group for group in report['patients']}
    assert [case['patient'] for case in report['cases']] == [f'volume-{k}' for k in (0, 0, 2, 3, 2, 5, 6)]
    assert groups['volume-0']['cases'] == ['volume-0', 'volume-1']
    assert groups['volume-0']['sure'] == 'likely'
    assert (groups['volume-2']['cases'], groups['volume-2']['sure']) == (['volume-2', 'volume-4'], 'certain')
    assert groups['volume-3']['sure'] == 'likely'
    assert groups['volume-5']['sure'] == groups['volume-6']['sure'] == 'unknown'
    assert json.loads(json.dumps(report, allow_nan=False)) == json.loads(json.dumps(report))


def test_processes_find_the_same(folder, inspected):
    assert inspect(folder, workers=2)[0] == inspected[0]


def test_one_scan_given_to_two_patients_is_a_contradiction(folder, tmp_path):
    table = tmp_path / 'patients.csv'
    table.write_text('case,patient\n' + ''.join(f'volume-{k},p{k}\n' for k in range(7)))
    report, _ = inspect(folder, patients=str(table))
    case = report['cases'][2]
    assert case['verdict'] == 'refuse'
    assert 'the same scan as volume-4, given to another patient' in case['reasons'][-1]
    assert {group['sure'] for group in report['patients']} == {'given'}


@pytest.mark.parametrize('width', [20, 60, 100, 200])
def test_the_table_fits_and_names_every_case_and_reason(inspected, width):
    text = inspection_text(inspected[0], width)
    lines = text.splitlines()
    assert all(len(line) <= width for line in lines if '/' not in line and not line.startswith('volume'))
    for word in ('refuse', 'volume-6', '7 cases'):
        assert word in text
    assert 'similarity' in ' '.join(lines)


def test_the_sheet_shows_the_readable_cases(inspected, tmp_path):
    report, snapshots = inspected
    assert [snapshot.case for snapshot in snapshots] == [f'volume-{k}' for k in range(5)]
    assert all((snapshot.tumor >= 128).any() for snapshot in snapshots)
    draw_sheet(tmp_path / 'new' / 'sheet.png', report, snapshots)
    picture = matplotlib.image.imread(tmp_path / 'new' / 'sheet.png')
    assert picture.shape[1] > 5 * 200
    yellow = (picture[..., 0] > 0.7) & (picture[..., 1] > 0.7) & (picture[..., 2] < 0.5)
    assert yellow.sum() > 100
    # Two lines of legend below the pictures: dark between them, and nothing at the very edge.
    lit = (picture[-50:, :400, :3].max(-1) > 0.5).any(1)
    lines = np.flatnonzero(np.diff(lit.astype(int)) == 1)
    assert len(lines) == 2
    assert not lit[-3:].any()


def test_the_snapshot_is_the_slice_with_most_tumour(tmp_path):
    hu = body(0)
    labels = labels_of(hu)
    labels[5, 20:30, 20:30] = 2
    write_body(tmp_path, 0, hu, labels)
    (snapshot,) = inspect(tmp_path)[1]
    assert snapshot.index == 5


def test_a_folder_without_cases_is_refused(tmp_path):
    with pytest.raises(UserError, match='no CT volume found'):
        inspect(tmp_path)


def test_a_case_that_takes_too_long_is_refused_with_the_time(tmp_path):
    write_nifti(tmp_path / 'volume-0.nii', np.zeros((512, 512, 150), np.int16), AFFINE)
    write_nifti(tmp_path / 'segmentation-0.nii', np.ones((512, 512, 150), np.uint8), AFFINE)
    report, snapshots = inspect(tmp_path, case_seconds=0.2)
    (case,) = report['cases']
    assert (case['verdict'], snapshots) == ('refuse', [])
    assert 'volume-0.nii: not done after 0.2 s' in case['reasons'][0]
