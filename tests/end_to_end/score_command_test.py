"""`liver-jax score` as a user runs it, on good and bad folders."""

import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from liver_jax.data.formats.nifti import write_nifti
from liver_jax.errors import UserError
from liver_jax.evaluation.score_folders import score_folders
from liver_jax.report.score_table import score_text
from liver_jax.runtime.run_folder import json_text

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
    assert run.returncode == 0
    assert run.stderr.splitlines()[0] == 'segmentation-0 (1 of 3): tumor Dice 0.6667, liver Dice 1.0000'
    assert len(run.stderr.splitlines()) == 3
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
    assert [line.split(':')[0] for line in run.stderr.splitlines()] == [
        'segmentation-0 (1 of 2)', 'segmentation-1 (2 of 2)', 'liver-jax',
    ]  # fmt: skip
    assert '(and 2 more, listed above); cases scored: 1' in run.stderr.splitlines()[-1]
    assert 'segmentation-0  0.6667' in run.stdout
    assert 'NOT SCORED' in run.stdout
    assert '\x1b' not in run.stdout + run.stderr
    assert len(json.loads((folders / 'scores.json').read_text())['failed']) == 3


@pytest.mark.parametrize('which', ['pred', 'ref'])
def test_empty_and_missing_folders(folders, which):
    flag = {'pred': '--prediction', 'ref': '--reference'}[which]
    for path in (folders / which).iterdir():
        path.unlink()
    run = command(folders)
    assert (run.returncode, run.stdout) == (2, '')
    assert run.stderr == (
        f'liver-jax: {flag}={folders / which}: no .nii or .nii.gz file in it; expected segmentations such as '
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


def test_volume_53_of_lits_is_scored_on_the_grid_of_its_scan(folders):
    """There the affines of scan and segmentation differ though their voxels align."""
    expected = score(folders)['cases'][1]['tumor.dice']
    moved = AFFINE.copy()
    moved[2, 3] += 40
    write_nifti(folders / 'pred' / 'liver_001.nii', guess(1), moved)
    assert 'or put the scan (volume-N) beside the reference' in score(folders)['failed'][0]['reason']
    write_nifti(folders / 'ref' / 'volume-1.nii.gz', np.full((24, 20, 12), -500, np.int16), moved)
    results = score(folders)
    assert results['failed'] == []
    assert results['cases'][1]['tumor.dice'] == expected
    assert 'segmentation-1: its affine is not that of its scan volume-1.nii.gz' in results['notes'][0]
    assert 'Note: segmentation-1: its affine' in score_text(results, 100)
    moved[2, 3] -= 80  # neither the scan's grid nor the reference's
    write_nifti(folders / 'pred' / 'liver_001.nii', guess(1), moved)
    assert len(score(folders)['failed']) == 1


def test_masks_of_255_are_scored_as_what_they_are_said_to_be(folders):
    expected = score(folders)['mean']['tumor.dice']
    rewrite(folders / 'pred', lambda array: 255 * (array == 2))
    assert score(folders, 'tumor')['mean']['tumor.dice'] == expected
    assert len(score(folders)['failed']) == 3
    rewrite(folders / 'ref', lambda array: 128 * (array == 2))
    assert score(folders, 'tumor')['mean']['tumor.dice'] == expected
    assert score(folders, 'liver')['mean']['liver.dice'] == expected


def test_a_mask_taken_for_a_liver_is_said_above_the_tables(folders):
    rewrite(folders / 'pred', lambda array: array > 0)
    text = score_text(score(folders), 100)
    assert text.index('Note: no prediction has label 2') < text.index('LIVER')


def test_two_files_are_a_pair_and_a_file_beside_a_folder_is_none(folders):
    one = folders / 'pred' / 'liver_001.nii', folders / 'ref' / 'segmentation-1.nii.gz'
    expected = score(folders)['cases'][1]
    assert score_folders(*one)['cases'][0]['tumor.assd'] == expected['tumor.assd']
    with pytest.raises(UserError, match=r'--prediction=.*liver_001.nii: is a file; expected a folder, or files'):
        score_folders(one[0], folders / 'ref')


def test_files_may_be_links_to_elsewhere(folders, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp('elsewhere') / 'x'
    (folders / 'pred' / 'liver_001.nii').rename(elsewhere)
    (folders / 'pred' / 'liver_001.nii').symlink_to(elsewhere)
    assert score(folders)['failed'] == []


def test_json_alone_on_the_terminal_and_never_into_a_folder_that_is_not_there(folders):
    run = command(folders, '--json')
    assert json.loads(run.stdout)['mean'] == json.loads(json_text(score(folders)))['mean']
    run = command(folders, f'--json={folders}/none/scores.json')
    assert (run.returncode, run.stdout) == (2, '')
    assert run.stderr == (
        f'liver-jax: --json={folders}/none/scores.json: {folders}/none is no folder; '
        'expected the name of a file in a folder that is there\n'
    )
    assert not (folders / 'none').exists()


def test_a_narrow_terminal_is_told_what_it_lacks(folders):
    write_nifti(folders / 'pred' / 'liver_001.nii', (labels(1) > 0).astype(np.uint8), AFFINE)
    results = score(folders)
    wide, narrow = score_text(results, 120), score_text(results, 60)
    assert 'too narrow' not in wide
    assert '(too narrow for: MSD, HD95, NSD 2)' in narrow
    assert max(map(len, narrow.splitlines())) <= 60
    mean = next(line for line in wide.splitlines() if line.startswith('mean'))
    assert f'{results["mean"]["tumor.assd"]:.2f} (2 of 3)' in mean
    assert mean.count('of 3)') == 3  # the distances; the missed tumour has Dice 0, but no distance


def probabilities(folders):
    """For each case .9 at the first tumour, .6 at the second; in case 0 also .8 far from both."""
    for number in range(3):
        array = np.zeros((24, 20, 12), np.float32)
        array[5 + number : 9 + number, 4:8, 3:6], array[12:15, 10:14, 7:9] = 0.9, 0.6
        array[0, 0, 0] = 0.8 * (number == 0)
        write_nifti(made(folders / 'prob') / f'p{number}.nii.gz', array, AFFINE)
    return folders / 'prob'


def test_froc_of_probabilities_by_hand(folders):
    run = command(folders, f'--probabilities={probabilities(folders)}', f'--json={folders}/s.json')
    found = json.loads((folders / 's.json').read_text())['froc']
    # All first tumours come before the one wrong candidate (1/3 per scan), the second ones after it.
    assert found['sensitivity'] == [0.5, 0.5, 1, 1, 1, 1, 1]
    assert found['score'] == pytest.approx(6 / 7)
    assert 'FROC, 3 scans: score 0.8571; sensitivity 0.500 at 0.125' in run.stdout
    (folders / 'prob' / 'p2.nii.gz').unlink()
    results = score_folders(folders / 'pred', folders / 'ref', 'auto', folders / 'prob')
    assert results['froc']['scans'] == 2
    assert 'FROC is of 2 of 3 cases; --probabilities has no file for segmentation-2' in results['notes'][0]
    write_nifti(folders / 'prob' / 'p1.nii.gz', np.full((24, 20, 12), 7, np.float32), AFFINE)
    failed = score_folders(folders / 'pred', folders / 'ref', 'auto', folders / 'prob')['failed']
    assert 'p1.nii.gz: values of 7 to 7; expected probabilities from 0 to 1' in failed[0]['reason']


def test_scans_that_the_network_knows_are_warned_of(folders):
    known = {'liver_000': {'part': 'train', 'same_as': 'volume-7'}, 'liver_001': None, 'liver_002': None}
    entries = [{'case': case, 'known': part} for case, part in known.items()]
    write_nifti(folders / 'pred' / 'liver_000.nii', labels(0), AFFINE)  # learnt by heart
    (folders / 'pred' / 'manifest.json').write_text(json.dumps({'cases': entries}))
    results = score(folders)
    assert results['cases'][0]['known']['same_as'] == 'volume-7'
    assert results['mean']['tumor.dice'] == pytest.approx((1 + 2 * 2 / 3) / 3)
    assert results['unseen']['mean']['tumor.dice'] == pytest.approx(2 / 3)
    text = ' '.join(score_text(results, 100).split())
    assert 'WARNING: 1 of 3 scans are known to the network from its training: segmentation-0 (trained it)' in text
    assert 'mean, unseen 0.6667' in text
    (folders / 'pred' / 'manifest.json').write_text('[1]')
    assert score(folders)['notes'] == []
