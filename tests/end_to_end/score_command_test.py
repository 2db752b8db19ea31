"""`liver-jax score` as a user runs it, on good and bad folders."""

import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from liver_jax.data.formats.nifti import write_nifti
from liver_jax.evaluation.score_folders import score_folders

AFFINE = np.array([[-0.7, 0, 0, 90], [0, 0.8, 0, -120], [0, 0, 2.5, 40], [0, 0, 0, 1]])


def labels(number=0):
    """A liver with two tumours [i, j, k], the same for a number."""
    array = np.zeros((24, 20, 12), np.uint8)
    array[3:20, 2:17, 1:11] = 1
    array[5 + number : 9 + number, 4:8, 3:6] = 2
    array[12:15, 10:14, 7:9] = 2
    return array


def guess(number=0):
    """Its prediction: the first tumour half, the second one voxel off."""
    array = np.where(labels(number) == 2, 1, labels(number)).astype(np.uint8)
    array[5 + number : 9 + number, 4:6, 3:6] = 2
    array[13:16, 10:14, 7:9] = 2
    return array


@pytest.fixture
def folders(tmp_path):
    """Three good cases, named in different ways."""
    for number in range(3):
        write_nifti(made(tmp_path / 'ref') / f'segmentation-{number}.nii.gz', labels(number), AFFINE)
        write_nifti(made(tmp_path / 'pred') / f'liver_{number:03d}.nii', guess(number), AFFINE)
    return tmp_path


def made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


def score(folder, labels='auto'):
    return score_folders(folder / 'pred', folder / 'ref', labels)


def command(folder, *more):
    arguments = ['score', f'--prediction={folder / "pred"}', f'--reference={folder / "ref"}', *more]
    return subprocess.run([sys.executable, '-m', 'liver_jax', *arguments], capture_output=True, text=True)


def test_good_folders_by_hand(folders):
    run = command(folders, f'--json={folders}/scores.json')
    assert (run.returncode, run.stderr) == (0, '')
    results = json.loads((folders / 'scores.json').read_text())
    # 4x4x3 voxels of which half are predicted, 3x4x2 of which 2x4x2 are met by 24 predicted ones: 40 of 48 and 72.
    case = results['cases'][0]
    assert case['case'] == 'segmentation-0'
    assert case['tumor.dice'] == pytest.approx(2 * 40 / (48 + 72))
    assert case['tumor.rvd'] == pytest.approx((48 - 72) / 72)
    assert case['tumor.reference_ml'] == pytest.approx(72 * 0.7 * 0.8 * 2.5 / 1000)
    assert case['lesion.recall_iou0'] == 1
    assert case['liver.dice'] == 1
    assert {'tumor.voe', 'tumor.assd', 'tumor.msd', 'tumor.rmsd', 'tumor.hd95', 'tumor.nsd_1mm'} < case.keys()
    assert results['mean']['tumor.dice'] == pytest.approx(2 / 3)
    assert results['global']['tumor.dice'] == pytest.approx(2 / 3)
    assert (results['count']['tumor.dice'], results['failed']) == (3, [])
    assert 'null' in (folders / 'scores.json').read_text()  # false_positive_ml has no value where there is tumour
    for words in ('TUMOUR', 'segmentation-2', 'mean', '0.6667', 'IoU > 0.5'):
        assert words in run.stdout


def test_the_last_number_of_a_name_joins(folders):
    (folders / 'pred' / 'liver_001.nii').rename(folders / 'pred' / 'run7_of_0_case-1.nii')
    assert score(folders)['failed'] == []


def test_axes_in_another_order_are_brought_back(folders):
    expected = score(folders)
    flat = nib.Nifti1Image(guess(1), AFFINE)
    for axes in ('RAS', 'SLP', 'PIR'):
        turn = nib.orientations.ornt_transform(nib.io_orientation(AFFINE), nib.orientations.axcodes2ornt(axes))
        turned = flat.as_reoriented(turn)
        write_nifti(folders / 'pred' / 'liver_001.nii', np.asarray(turned.dataobj), turned.affine)
        found = score(folders)
        for name, value in expected['cases'][1].items():
            if '.' in name:
                assert found['cases'][1][name] == pytest.approx(value, nan_ok=True), (axes, name)


def test_a_flipped_affine_is_refused_with_the_distance(folders):
    flipped = AFFINE.copy()
    flipped[0, 0] = 0.7
    write_nifti(folders / 'pred' / 'liver_001.nii', guess(1), flipped)
    results = score(folders)
    assert [case['case'] for case in results['cases']] == ['segmentation-0', 'segmentation-2']
    assert 'liver_001.nii: its affine puts voxels up to' in results['failed'][0]['reason']


def test_an_affine_that_is_off_by_rounding_is_accepted(folders):
    write_nifti(folders / 'pred' / 'liver_001.nii', guess(1), AFFINE + 1e-3 * (AFFINE != 0))
    assert score(folders)['failed'] == []


def spoil_shape(pred):
    write_nifti(pred / 'liver_001.nii', guess(1)[:, :, :-1], AFFINE)


def spoil_value(value, dtype=np.float32):
    def spoil(pred):
        array = guess(1).astype(dtype)
        array[0, 0, 0] = value
        write_nifti(pred / 'liver_001.nii', array, AFFINE)

    return spoil


def spoil_file(pred):
    (pred / 'liver_001.nii').write_bytes(b'<script>alert(1)</script>')


def spoil_twice(pred):
    write_nifti(pred / 'again_1.nii.gz', guess(1), AFFINE)


@pytest.mark.parametrize(
    ('spoil', 'said'),
    [
        (spoil_shape, 'liver_001.nii: 11x20x24 voxels (slices, rows, columns), but segmentation-1.nii.gz has 12x20x24'),
        (spoil_value(0.5), 'liver_001.nii: labels 0.5; expected only 0'),
        (spoil_value(-1, np.int16), 'liver_001.nii: labels -1; expected only 0'),
        (spoil_value(255, np.uint8), 'liver_001.nii: labels 255; expected only 0'),
        (spoil_value(np.nan), 'liver_001.nii: labels nan; expected only 0'),
        (spoil_file, 'liver_001.nii: not a readable NIfTI file'),
        (spoil_twice, 'liver_001.nii: number 1 is also that of'),
        (lambda pred: (pred / 'liver_001.nii').unlink(), 'segmentation-1.nii.gz: no prediction with the number 1'),
        (lambda pred: (pred.parent / 'ref/segmentation-1.nii.gz').unlink(), 'no reference with the number 1'),
    ],
    ids=['shape', 'fraction', 'negative', 'label', 'nan', 'unreadable', 'ambiguous', 'no prediction', 'no reference'],
)
def test_a_bad_case_is_named_and_the_rest_scored(folders, spoil, said):
    spoil(folders / 'pred')
    results = score(folders)
    assert [case['case'] for case in results['cases']] == ['segmentation-0', 'segmentation-2']
    assert len(results['failed']) == 1
    assert said in results['failed'][0]['reason']


def test_bad_cases_end_in_one_line_and_exit_code_2_after_the_scores(folders):
    spoil_shape(folders / 'pred')
    (folders / 'pred' / 'liver_002.nii').unlink()
    (folders / 'pred' / 'no\nnumber\x1b[K.nii').write_bytes(b'')
    run = command(folders, f'--json={folders}/scores.json')
    assert run.returncode == 2
    assert len(run.stderr.splitlines()) == 1
    assert '(and 2 more, listed above); cases scored: 1' in run.stderr
    assert 'segmentation-0  0.6667' in run.stdout
    assert 'NOT SCORED' in run.stdout
    assert '\x1b' not in run.stdout + run.stderr
    assert len(json.loads((folders / 'scores.json').read_text())['failed']) == 3


@pytest.mark.parametrize('which', ['pred', 'ref'])
def test_empty_and_missing_folders(folders, which):
    for path in (folders / which).iterdir():
        path.unlink()
    run = command(folders)
    assert (run.returncode, run.stdout) == (2, '')
    assert run.stderr == (
        f'liver-jax: {folders / which}: no .nii or .nii.gz file in it; expected segmentations such as '
        'segmentation-0.nii\n'
    )
    (folders / which).rmdir()
    assert f'{folders / which}: no such folder' in command(folders).stderr


def test_nothing_to_score_is_said_too(folders):
    for number in range(3):
        write_nifti(folders / 'pred' / f'liver_{number:03d}.nii', guess(number)[1:], AFFINE)
    run = command(folders)
    assert run.returncode == 2
    assert 'cases scored: 0' in run.stderr


def test_volumes_beside_their_segmentations_are_passed_over(folders):
    write_nifti(folders / 'ref' / 'volume-1.nii.gz', np.full((24, 20, 12), -500, np.int16), AFFINE)
    assert score(folders)['failed'] == []


def rewrite(folder, change):
    for path in folder.iterdir():
        image = nib.load(path)
        array = change(np.asarray(image.dataobj))
        write_nifti(path, array.astype(np.uint8), image.affine)


def test_binary_tumour_predictions(folders):
    expected = score(folders)['mean']
    rewrite(folders / 'pred', lambda array: array == 2)
    results = score(folders, 'tumor')
    assert results['mean'] == pytest.approx(
        {name: value for name, value in expected.items() if name in results['mean']}, nan_ok=True
    )
    assert not [name for name in results['mean'] if name.startswith(('liver', 'burden'))]
    rewrite(folders / 'ref', lambda array: array == 2)
    assert score(folders, 'tumor')['mean'] == pytest.approx(results['mean'], nan_ok=True)
    # Not told, 1 is read as liver, and this is said.
    assert 'liver.dice' in score(folders)['mean']


def test_labels_that_cannot_show_a_tumour(folders):
    rewrite(folders / 'pred', lambda array: array > 0)
    results = score(folders)
    assert results['mean']['liver.dice'] == 1
    assert {name.split('.')[0] for name in results['mean'] | results['global']} == {'liver'}
    assert 'say --labels=tumor if 1 is tumour' in results['labels']
    assert 'TUMOUR' not in command(folders).stdout
    assert score(folders, 'lits')['mean']['tumor.dice'] == 0
    assert score(folders, 'liver')['mean']['liver.dice'] == 1


def test_tumour_as_2_alone_says_nothing_of_the_liver(folders):
    expected = score(folders)['mean']['tumor.dice']
    rewrite(folders / 'pred', lambda array: 2 * (array == 2))
    results = score(folders)
    assert results['mean']['tumor.dice'] == expected
    assert not [name for name in results['mean'] if name.startswith(('liver', 'burden'))]


def test_a_prediction_with_two_labels_is_no_binary_one(folders):
    assert {case['reason'].split(': ')[1] for case in score(folders, 'tumor')['failed']} == {
        'labels 1 and 2; with --labels=tumor expected only one beside 0'
    }


def test_tumour_free_references_and_empty_predictions(folders):
    rewrite(folders / 'ref', lambda array: array > 0)
    results = score(folders)
    assert results['mean']['tumor.dice'] == 0
    assert results['mean']['tumor.false_positive_ml'] == pytest.approx(48 * 0.7 * 0.8 * 2.5 / 1000)
    assert (results['count']['tumor.rvd'], results['count']['lesion.recall_iou0']) == (0, 0)
    assert 'Cases without tumour: 3' in command(folders).stdout
    rewrite(folders / 'pred', lambda array: array > 0)
    results = score(folders)
    assert (results['count']['tumor.dice'], results['mean']['tumor.dice_lits']) == (0, 1)
    rewrite(folders / 'pred', lambda array: 0 * array)
    results = score(folders)
    assert (results['mean']['liver.dice'], results['count']['liver.assd']) == (0, 0)
