"""From scans to files: voxel by voxel, in millimetres, with bad scans among good ones, broken off and gone on."""

import csv
import dataclasses
import hashlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import highdicom as hd
import nibabel as nib
import numpy as np
import pytest

from liver_jax.data.formats.nifti import write_nifti
from liver_jax.data.layouts import Case
from liver_jax.data.scans import find_scans
from liver_jax.errors import UserError
from liver_jax.evaluation.predict import check_output, predict, predict_cases
from liver_jax.evaluation.results import evaluate_run
from liver_jax.evaluation.score_folders import score_folders
from liver_jax.evaluation.segment import Network, Options, Setup, load_setup, model_digest
from liver_jax.evaluation.volumes import Predictor
from liver_jax.runtime.interrupt import Interrupted
from liver_jax.training.loop import train
from orientations import ORIENTATIONS, oblique, orientation_affine
from small_ct import small_config
from small_dicom import COLUMNS, ROWS, SLICES, write_series

SHAPE = (5, 6, 7)


def identity(target='tumor', side=7, function=lambda images: images.astype(np.float32) / 255, **options) -> Setup:
    """Voxels of 0 and 1 HU are their own probabilities."""
    predictor = Predictor(function, (0.0, 1.0), side, 2)
    return Setup(Network(predictor, target, 0.5, {'model': 'identity', 'sha256': target}), options=Options(**options))


def voxels(seed=0, shape=SHAPE):
    return np.random.default_rng(seed).integers(0, 2, shape).astype(np.int16)


def lesion() -> np.ndarray:
    """[slice, row, column] with one lesion, lopsided in every direction."""
    array = np.zeros((SLICES, ROWS, COLUMNS), np.int16)
    array[3:8, 5:12, 4:9] = array[8:10, 5:7, 4:6] = 1
    return array


def centroid(mask, affine):
    return (affine @ [*np.argwhere(mask).mean(0), 1])[:3]


def run(folder, output, setup=None, damaged=()):
    return predict_cases(find_scans(folder)[0], damaged, output, setup or identity())


def status(manifest):
    return {entry['case']: entry['status'] for entry in manifest['cases']}


@pytest.mark.parametrize('letters', [*ORIENTATIONS, 'oblique'])
def test_voxels_affine_and_header_come_back(letters, tmp_path):
    array, affine = voxels(), oblique() if letters == 'oblique' else orientation_affine(letters)
    image = nib.Nifti1Image(array, affine)
    image.header['descrip'], image.header['cal_max'] = b'from the scanner', 400
    image.set_sform(affine, 'scanner')
    image.set_qform(affine, 'aligned')
    image.header.set_xyzt_units('mm', 'sec')
    (tmp_path / 'in').mkdir()
    nib.save(image, tmp_path / 'in' / 'a.nii.gz')
    case = Case('a', 'nifti', (tmp_path / 'in' / 'a.nii.gz',), (), '')
    side = max(length for length, letter in zip(SHAPE, letters, strict=False) if letter not in 'SI')
    side = 6 if letters == 'oblique' else side
    assert status(predict_cases([case], [], tmp_path / 'out', identity(side=side, probabilities=True))) == {'a': 'done'}
    made = nib.load(tmp_path / 'out' / 'a.nii.gz')
    np.testing.assert_array_equal(np.asarray(made.dataobj), array * 2)
    np.testing.assert_array_equal(made.affine, nib.load(case.images[0]).affine)
    assert made.get_data_dtype() == np.uint8
    assert (made.header['sform_code'], made.header['qform_code']) == (1, 2)
    assert (made.header['descrip'].item(), made.header['cal_max']) == (b'from the scanner', 0)
    assert made.header.get_xyzt_units() == ('mm', 'sec')
    probabilities = nib.load(tmp_path / 'out' / 'probabilities' / 'a.nii.gz')
    assert probabilities.get_data_dtype() == np.uint16
    np.testing.assert_allclose(probabilities.get_fdata(), array, atol=1e-6)


def test_a_lesion_is_in_the_same_place_in_nifti_dicom_and_findings(tmp_path):
    def turn(made):
        """By 20 degrees about the long axis, whole HU, still one pile."""
        cos, sin = np.cos(np.radians(20)), np.sin(np.radians(20))
        for one in made:
            one.ImageOrientationPatient = [*(round(float(x), 8) for x in (cos, sin, 0, -sin, cos, 0))]

    write_series(tmp_path / 'ct', lesion(), turn)
    assert status(run(tmp_path, tmp_path.with_suffix('.out'), identity(side=32))) == {'ct': 'done'}
    output = tmp_path.with_suffix('.out')
    (found,) = json.loads((output / 'findings' / 'ct.json').read_text())['lesions']
    nifti = nib.load(output / 'ct.nii.gz')
    of_nifti = centroid(np.asarray(nifti.dataobj) == 2, nifti.affine)
    volume = hd.seg.segread(output / 'ct.dcm').get_volume(combine_segments=True)
    of_dicom = centroid(volume.array == 1, volume.affine) * (-1, -1, 1)  # LPS to RAS
    np.testing.assert_allclose(of_nifti, of_dicom, atol=1e-3)
    np.testing.assert_allclose(found['centroid_mm'], of_nifti, atol=1e-3)
    assert (found['voxels'], found['mean_hu']) == (int(lesion().sum()), 1)
    # By hand, without a library: DICOM's own formula for the centre of mass.
    k, i, j = (float(x) for x in np.argwhere(lesion()).mean(0))
    cos, sin = np.cos(np.radians(20)), np.sin(np.radians(20))
    x = -100 + 0.6 * j * cos - 0.8 * i * sin
    y = -80 + 0.6 * j * sin + 0.8 * i * cos
    np.testing.assert_allclose(found['centroid_mm'], (-x, -y, -300 + 2.5 * k), atol=1e-3)


def test_labels_and_findings_follow_the_target(tmp_path):
    write_nifti(tmp_path / 'a.nii', lesion(), np.eye(4)[[2, 1, 0, 3]])
    for target, label, meaning in (('liver', 1, 'liver without its tumours'), ('liver_or_tumor', 1, 'liver with its')):
        output = tmp_path.with_name(target)
        manifest = run(tmp_path, output, identity(target, side=32))
        assert manifest['labels'][str(label)].startswith(meaning)
        assert np.asarray(nib.load(output / 'a.nii.gz').dataobj).max() == label
        record = json.loads((output / 'findings' / 'a.json').read_text())
        assert (record['liver_ml'], record['tumor_ml']) == (lesion().sum() / 1000, None)


def test_a_second_network_limits_lesions_to_the_liver(tmp_path):
    array = np.zeros((8, 8, 3), np.int16)
    array[1:3, 1:3] = 1
    array[6, 6, 0] = 1
    write_nifti(tmp_path / 'in.nii', array, np.diag([-1.0, -1, 1, 1]))
    liver = identity('liver_or_tumor', 8, lambda images: np.where(np.arange(8) < 5, 1, 0) * np.ones(images.shape))
    setup = dataclasses.replace(identity(side=8), liver=liver.network)
    manifest = run(tmp_path / 'in.nii', tmp_path / 'out', setup)
    labels = np.asarray(nib.load(tmp_path / 'out' / 'in.nii.gz').dataobj)
    expected = np.where(np.arange(8)[:, None, None] < 5, 1, 0) * np.ones_like(array)
    expected[1:3, 1:3] = 2
    np.testing.assert_array_equal(labels, expected)
    assert manifest['labels'] == {'0': 'background', '1': 'liver without its tumours', '2': 'tumour'}
    record = json.loads((tmp_path / 'out' / 'findings' / 'in.json').read_text())
    assert record['tumor_burden'] == pytest.approx(12 / 120)


def test_small_pieces_and_all_but_the_largest_are_left_out(tmp_path):
    array = np.zeros(SHAPE, np.int16)
    array[0, 0, 0] = array[4, 4:, 5:] = 1
    write_nifti(tmp_path / 'a.nii', array, np.diag([-10.0, -10, 10, 1]))  # 1 ml a voxel
    for number, options in enumerate(({'min_ml': 1.5}, {'largest_component': True})):
        output = tmp_path.with_name(f'out{number}')
        run(tmp_path, output, identity('liver', side=6, **options))
        labels = np.asarray(nib.load(output / 'a.nii.gz').dataobj)
        assert (labels.sum(), labels[0, 0, 0]) == (4, 0)


@pytest.mark.parametrize('towards', [1, -1], ids=['feet first', 'head first'])
def test_lesions_have_the_hu_of_their_own_voxels(towards, tmp_path):
    array = np.zeros((6, 6, 9), np.int16)
    for hu, place in ((10, np.s_[:3, :2, 6:8]), (20, np.s_[4, 4, 0]), (30, np.s_[4:, :3, 1:4])):
        array[place] = hu
    write_nifti(tmp_path / 'a.nii', array, np.diag([-10.0, -10, 10 * towards, 1]))
    run(tmp_path, tmp_path.with_name('out'), identity(side=6, min_ml=2))
    lesions = json.loads((tmp_path.with_name('out') / 'findings' / 'a.json').read_text())['lesions']
    assert [(lesion['volume_ml'], lesion['mean_hu']) for lesion in lesions] == [(18, 30), (12, 10)]


def test_a_scan_that_fails_later_leaves_no_older_result(tmp_path):
    folder, output = tmp_path / 'in', tmp_path / 'out'
    folder.mkdir()
    write_nifti(folder / 'a.nii', voxels(), np.diag([-1.0, -1, 1, 1]))
    run(folder, output, identity(side=6, probabilities=True))
    nan = identity(side=6, function=lambda images: images * np.float32(np.nan))
    assert status(run(folder, output, nan)) == {'a': 'failed'}
    assert not list(output.rglob('a.*'))


def test_a_bad_scan_is_told_of_and_the_others_are_done(tmp_path, caplog):
    folder = tmp_path / 'in'
    folder.mkdir()
    for number in (1, 3):
        write_nifti(folder / f'{number}.nii.gz', voxels(number), np.diag([-1.0, -1, 1, 1]))
    (folder / '2\x1b[31m<b>.nii.gz').write_bytes(b'no such thing')
    write_nifti(folder / '4.nii', voxels(4, (5, 6, 7)).astype(np.float32) * np.nan, np.eye(4))
    manifest = run(folder, tmp_path / 'out', identity(side=6), [UserError('a damaged file')])
    assert list(status(manifest).values()) == ['failed', 'done', 'failed', 'done', 'failed']
    errors = [entry['error'] for entry in manifest['cases'] if entry['status'] == 'failed']
    assert 'not a readable NIfTI' in errors[1]
    assert 'NaN or infinite voxels' in errors[2]
    assert all(error.isprintable() for error in errors)
    assert json.loads((tmp_path / 'out' / 'manifest.json').read_text())['cases'] == manifest['cases']
    rows = csv.DictReader((tmp_path / 'out' / 'findings.csv').read_text().splitlines())
    assert {row['case'] for row in rows} == {'1', '3'}
    assert caplog.text.count('failed: ') == 2


def test_nan_of_a_network_fails_the_scan(tmp_path):
    write_nifti(tmp_path / 'a.nii', voxels(), np.eye(4))
    manifest = run(tmp_path, tmp_path.with_name('out'), identity(function=lambda images: images * np.float32(np.nan)))
    assert 'the network gives NaN in slice 0' in manifest['cases'][0]['error']
    assert not list(tmp_path.with_name('out').glob('*.nii*'))


def test_what_is_done_is_not_done_again_unless_something_changed(tmp_path):
    folder, output = tmp_path / 'in', tmp_path / 'out'
    folder.mkdir()
    for number in range(4):
        write_nifti(folder / f'{number}.nii', voxels(number), np.diag([-1.0, -1, 1, 1]))
    setup = identity(side=6)
    assert set(status(run(folder, output, setup)).values()) == {'done'}
    table = (output / 'findings.csv').read_text()
    (output / '1.nii.gz').write_bytes((output / '1.nii.gz').read_bytes()[:-1])  # not whole
    (output / 'findings' / '2.json').unlink()
    write_nifti(folder / '3.nii', voxels(3), np.diag([-1.0, -1, 1, 1]))
    os.utime(folder / '3.nii', ns=(1, 1))
    assert list(status(run(folder, output, setup)).values()) == ['kept', 'done', 'done', 'done']
    assert set(status(run(folder, output, setup)).values()) == {'kept'}
    assert (output / 'findings.csv').read_text() == table
    assert set(status(run(folder, output, identity(side=6, min_ml=0.001))).values()) == {'done'}
    assert set(status(run(folder, output, identity('liver', side=6))).values()) == {'done'}


def test_ctrl_c_keeps_what_is_finished(tmp_path):
    folder, output, calls = tmp_path / 'in', tmp_path / 'out', itertools.count()
    folder.mkdir()
    for number in range(3):
        write_nifti(folder / f'{number}.nii', voxels(number), np.diag([-1.0, -1, 1, 1]))

    def interrupted(images):
        if next(calls) == 5:  # four batches of two slices are a scan
            os.kill(os.getpid(), signal.SIGINT)
        return images.astype(np.float32) / 255

    with pytest.raises(Interrupted, match='finished scans are kept'):
        run(folder, output, identity(side=6, function=interrupted))
    assert [path.name for path in output.glob('*.nii.gz')] == ['0.nii.gz']
    assert len(json.loads((output / 'manifest.json').read_text())['cases']) == 1
    assert list(status(run(folder, output, identity(side=6))).values()) == ['kept', 'done', 'done']


@pytest.mark.parametrize('output', ['in', 'in/deeper', 'link'])
def test_an_output_among_the_scans_is_refused(output, tmp_path):
    (tmp_path / 'in').mkdir()
    (tmp_path / 'link').symlink_to(tmp_path / 'in')
    write_nifti(tmp_path / 'in' / 'a.nii.gz', voxels(), np.eye(4))
    with pytest.raises(UserError, match='lies among the scans'):
        check_output(tmp_path / 'in', tmp_path / output)
    if output != 'in/deeper':
        with pytest.raises(UserError, match='lies among the scans'):
            check_output(tmp_path / 'in' / 'a.nii.gz', tmp_path / output)
    check_output(tmp_path / 'in', tmp_path / 'out')


@pytest.fixture(scope='module')
def workdir(raw, config, tmp_path_factory):
    small = small_config(raw, Path(config.data.store), model_width=2, train_epochs=1)
    return train(small, tmp_path_factory.mktemp('runs') / 'tumor')


def command(*arguments):
    done = subprocess.run(
        [sys.executable, '-m', 'liver_jax', 'predict', *map(str, arguments)], capture_output=True, text=True
    )
    assert 'Traceback' not in done.stderr
    return done


def test_the_command_from_a_run_folder(workdir, raw, tmp_path):
    bad = tmp_path / 'in'
    bad.mkdir()
    for name in ('volume-0.nii.gz', 'segmentation-0.nii.gz'):
        (bad / name).write_bytes((raw / name).read_bytes())
    flags = f'--workdir={workdir}', f'--input={bad}', f'--output={tmp_path / "out"}'
    done = command(*flags, f'--json={tmp_path / "m.json"}')
    assert (done.returncode, done.stderr.count('volume-0 (1 of 1): 8 slices in')) == (0, 1)
    manifest = json.loads((tmp_path / 'm.json').read_text())
    assert status(manifest) == {'volume-0': 'done'}
    assert (
        manifest['made_by']['network']['sha256'] == load_setup(workdir, 'best', Options(), None).network.facts['sha256']
    )
    assert manifest['versions']['devices'] == '8 cpu'
    (entry,) = manifest['cases']
    scan = (bad / 'volume-0.nii.gz').read_bytes()
    assert (entry['input']['bytes'], entry['input']['sha256']) == (len(scan), hashlib.sha256(scan).hexdigest())
    (bad / 'broken.nii').write_bytes(b'x' * 400)
    done = command(*flags, '--json')
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(
        f'liver-jax: 1 of 2 scans failed: {bad / "broken.nii"}: not a readable'
    )
    assert status(json.loads(done.stdout)) == {'broken': 'failed', 'volume-0': 'kept'}
    done = command(*flags, '--min_ml=few')
    assert (done.returncode, done.stderr) == (2, 'liver-jax: --min_ml=few: expected millilitres, such as 0.05\n')


def test_predictions_with_probabilities_are_scored_and_what_is_known_is_told(workdir, raw, tmp_path):
    for number in range(4):
        (tmp_path / 'in').mkdir(exist_ok=True)
        (tmp_path / 'in' / f'volume-{number}.nii.gz').symlink_to(raw / f'volume-{number}.nii.gz')
    manifest = predict(workdir, tmp_path / 'in', tmp_path / 'out', 'best', Options(probabilities=True))
    parts = {
        case['case']: part
        for part in ('train', 'val')
        for case in json.loads((workdir / 'split.json').read_text())[part]
    }
    known = {entry['case']: (entry['known'] or {}).get('part') for entry in manifest['cases']}
    assert known == {name: parts.get(name) for name in known}
    assert sum(part is not None for part in known.values()) > 0
    results = score_folders(tmp_path / 'out', raw, 'lits', tmp_path / 'out')
    assert (len(results['cases']), results['failed'][0]['case'], results['froc']['scans']) == (4, '4', 4)
    assert sum('known to the network' in note for note in results['notes']) == 1
    again = predict(workdir, tmp_path / 'in', tmp_path / 'out', 'best', Options(probabilities=True))
    assert [entry['known'] for entry in again['cases']] == [entry['known'] for entry in manifest['cases']]
    assert set(status(again).values()) == {'kept'}


def test_a_comparison_is_refused_with_the_folders_of_its_networks(workdir, raw, tmp_path):
    (tmp_path / 'run').mkdir()
    for name in ('unet', 'resunet'):
        (tmp_path / 'run' / name).symlink_to(workdir)
    said = (
        f'a comparison, with a network in each of its runs; use --workdir={tmp_path}/run/unet or --workdir={tmp_path}'
    )
    with pytest.raises(UserError, match=said):
        predict(tmp_path / 'run', raw, tmp_path / 'out', 'best', Options())
    with pytest.raises(UserError, match=said):
        evaluate_run(tmp_path / 'run', 'best', 'test', None)


def test_names_that_are_the_same_once_cleaned_do_not_share_a_file(tmp_path):
    (tmp_path / 'in').mkdir()
    for number, name in enumerate(('a?b', 'a*b')):
        write_nifti(tmp_path / 'in' / f'{name}.nii', voxels(number), np.diag([-1.0, -1, 1, 1]))
    manifest = run(tmp_path / 'in', tmp_path / 'out', identity(side=6))
    assert len(status(manifest)) == 2
    made = sorted(np.asarray(nib.load(path).dataobj).sum() for path in (tmp_path / 'out').glob('*.nii.gz'))
    assert made == sorted(2 * int(voxels(number).sum()) for number in (0, 1))


def test_what_validation_fitted_is_used_if_it_is_of_this_checkpoint(workdir, raw, tmp_path):
    copy = tmp_path / 'run'
    shutil.copytree(workdir, copy)
    with pytest.raises(UserError, match=r'--fitted: .*test.json has no threshold .*; make it with .liver-jax evaluate'):
        load_setup(copy, 'best', Options(fitted=True), None)
    results = evaluate_run(copy, 'best', 'test', None)
    setup = load_setup(copy, 'best', Options(fitted=True), None)
    assert setup.network.threshold == setup.describe()['network']['threshold'] == results['fitted']['threshold']
    assert setup.options.min_ml == results['fitted']['min_mm3'] / 1000
    assert load_setup(copy, 'best', Options(fitted=True, min_ml=7), None).options.min_ml == 7
    file = copy / 'evaluation' / 'test.json'
    file.write_text(json.dumps(json.loads(file.read_text()) | {'step': 1000}))
    with pytest.raises(UserError, match='is of step 1000, the checkpoint of step'):
        load_setup(copy, 'best', Options(fitted=True), None)


def test_options_that_do_not_suit_the_network_are_refused(workdir, raw, tmp_path):
    for options, liver, match in (
        (Options(largest_component=True), None, "--largest_component: data.target of .* is 'tumor'"),
        (Options(), workdir, "--liver_workdir=.*: its data.target is 'tumor'; expected 'liver_or_tumor'"),
    ):
        with pytest.raises(UserError, match=match):
            predict(workdir, raw, tmp_path, 'best', options, liver)


def test_a_checkpoint_of_another_architecture_is_one_line(workdir, raw, tmp_path):
    file = tmp_path / 'run' / 'config.json'
    file.parent.mkdir()
    (tmp_path / 'run' / 'checkpoints').symlink_to(workdir / 'checkpoints')
    values = json.loads((workdir / 'config.json').read_text())
    values['model']['width'] = 3
    file.write_text(json.dumps(values))
    with pytest.raises(UserError, match=r'model: of another network .* such as batch_stats\..*: \(') as refusal:
        predict(file.parent, raw, tmp_path / 'out', 'best', Options())
    assert '\n' not in str(refusal.value)


def test_the_digest_tells_networks_apart(workdir):
    from liver_jax.evaluation.run import load_run

    run = load_run(workdir)
    other = dataclasses.replace(run, variables={**run.variables, 'params': run.variables['batch_stats']})
    assert model_digest(run) == model_digest(load_run(workdir)) != model_digest(other)
