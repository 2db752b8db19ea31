"""Leaks made by hand are refused by train, evaluate and compare; known scans are left out of an external score."""

import dataclasses
import gzip
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from liver_jax.compare import compare
from liver_jax.errors import UserError
from liver_jax.evaluation.results import evaluate_run
from liver_jax.training.loop import train
from small_ct import command, small_config, write_case


@pytest.fixture(scope='module')
def trained(config, tmp_path_factory):
    """A run of one epoch; cases are volume-0 to volume-7."""
    short = dataclasses.replace(config, train=dataclasses.replace(config.train, epochs=1))
    return short, train(short, tmp_path_factory.mktemp('runs') / 'run')


@pytest.fixture
def copy(trained, tmp_path):
    """The config and a copy of the run, to be broken."""
    return trained[0], Path(shutil.copytree(trained[1], tmp_path / 'run'))


def edit(path, change):
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def leak(values):
    values['test'].append(values['train'][0])


def test_a_leak_made_by_hand_is_refused_by_train_and_evaluate(copy):
    config, workdir = copy
    edit(workdir / 'split.json', leak)
    for call in (lambda: train(config, workdir), lambda: evaluate_run(workdir, 'best', 'test', None)):
        with pytest.raises(UserError, match=r'split\.json: patient .* is in train .* and in test .*expected disjoint'):
            call()


def test_a_leak_made_by_hand_is_refused_by_compare_before_it_trains(config, trained, tmp_path):
    for place in ('split.json', 'resunet/split.json'):
        workdir = tmp_path / place.replace('/', '-')
        (workdir / place).parent.mkdir(parents=True)
        shutil.copy(trained[1] / 'split.json', workdir / place)
        edit(workdir / place, leak)
        with pytest.raises(UserError, match='expected disjoint parts'):
            compare(config, workdir, 80)
        assert not (workdir / 'unet' / 'checkpoints').exists()


def test_the_split_of_another_seed_is_refused_for_a_trained_network(copy):
    """A split that is honest in itself would show test scans that trained."""
    config, workdir = copy
    other = train(
        dataclasses.replace(config, split=dataclasses.replace(config.split, seed=5)), workdir.with_name('other')
    )
    shutil.copy(other / 'split.json', workdir / 'split.json')
    (workdir / 'config.json').write_text((other / 'config.json').read_text())
    said = r'split\.json: not the split that the checkpoint was trained on'
    for raw in (None, Path(config.data.raw)):
        with pytest.raises(UserError, match=said):
            evaluate_run(workdir, 'best', 'test', raw)
    with pytest.raises(UserError, match=said):
        train(dataclasses.replace(config, split=dataclasses.replace(config.split, seed=5)), workdir)


def test_a_checkpoint_that_lost_its_split_is_damaged(copy):
    config, workdir = copy
    file = next(workdir.glob('checkpoints/*/progress/metadata'))
    edit(file, lambda values: values.pop('split'))
    for call in (lambda: evaluate_run(workdir, 'best', 'test', None), lambda: train(config, workdir)):
        with pytest.raises(UserError, match='damaged'):
            call()


@pytest.fixture(scope='module')
def external(trained, tmp_path_factory):
    """One scan of each part of the split, renamed and not compressed, and one that is new; their new numbers."""
    folder, numbers = tmp_path_factory.mktemp('external'), {}
    parts = json.loads((trained[1] / 'split.json').read_text())
    for new, part in enumerate(('train', 'val', 'test'), 20):
        numbers[part], old = new, parts[part][0]['case'].split('-')[1]
        for name in ('volume', 'segmentation'):
            packed = Path(trained[0].data.raw, f'{name}-{old}.nii.gz').read_bytes()
            (folder / f'{name}-{new}.nii').write_bytes(gzip.decompress(packed))
    write_case(folder, 30, seed=99)
    return folder, {part: parts[part][0]['case'] for part in ('train', 'val', 'test')}


def evaluate(workdir, *flags, code=0):
    done = subprocess.run(
        [sys.executable, '-m', 'liver_jax', 'evaluate', f'--workdir={workdir}', *flags],
        capture_output=True, text=True, env={**os.environ, 'COLUMNS': '300'},
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    return done


def test_known_scans_are_left_out_of_an_external_score(trained, external):
    folder, was = external
    done = evaluate(trained[1], f'--raw={folder}')
    results = json.loads((trained[1] / 'evaluation' / 'external.json').read_text())
    assert results['left_out'] == [
        {'case': 'volume-20', 'part': 'train', 'same_as': was['train']},
        {'case': 'volume-21', 'part': 'val', 'same_as': was['val']},
    ]
    assert {case['case'] for case in results['cases']} == {'volume-22', 'volume-30'}
    assert {image['case'] for image in results['images']} == {'volume-22', 'volume-30'}
    assert results['warning'] == ''
    said = f'volume-20 (in training, as {was["train"]}), volume-21 (in validation, as {was["val"]})'
    assert f'2 of 4 volumes trained the network or chose its checkpoint: {said}; left out of the score' in done.stderr
    assert f'Left out of the score: {said}.' in done.stdout.splitlines()


def test_known_scans_are_scored_when_told_so_and_make_the_warning(trained, external):
    done = evaluate(trained[1], f'--raw={external[0]}', '--keep_training_cases')
    results = json.loads((trained[1] / 'evaluation' / 'external.json').read_text())
    assert results['left_out'] == []
    assert {case['case'] for case in results['cases']} == {f'volume-{number}' for number in (20, 21, 22, 30)}
    assert '2 of 4 volumes trained the network or chose its checkpoint: volume-20 (in training' in results['warning']
    assert f'WARNING: {results["warning"]}' in done.stdout


def test_an_external_set_of_nothing_but_known_scans_is_refused(trained, external, tmp_path):
    for name in ('volume', 'segmentation'):
        shutil.copy(external[0] / f'{name}-20.nii', tmp_path)
    line = evaluate(trained[1], f'--raw={tmp_path}', code=2).stderr.splitlines()[-1]
    assert 'nothing left to score, 1 of 1 volumes trained the network or chose its checkpoint: volume-20 (in' in line
    assert '--keep_training_cases to score these nonetheless' in line


def test_keeping_training_cases_without_raw_is_a_slip(trained):
    assert 'expected both or neither' in evaluate(trained[1], '--keep_training_cases', code=2).stderr


def test_evaluate_tells_the_split_and_its_certificate(trained):
    done = evaluate(trained[1])
    sentence = 'split by patient: 6/1/1 patients, no patient and no volume in two parts'
    assert f'S{sentence[1:]}.' in done.stdout.splitlines()
    results = json.loads((trained[1] / 'evaluation' / 'test.json').read_text())
    split = json.loads((trained[1] / 'split.json').read_text())
    assert results['certificate'] == split['certificate']
    assert results['split_digest'] == split['digest']


def test_one_scan_given_as_two_patients_is_refused_before_anything_is_made(raw, tmp_path):
    for number, new in ((0, 0), (1, 1), (2, 2), (0, 8)):
        for name in ('volume', 'segmentation'):
            (tmp_path / 'raw').mkdir(exist_ok=True)
            shutil.copy(raw / f'{name}-{number}.nii.gz', tmp_path / 'raw' / f'{name}-{new}.nii.gz')
    config = small_config(tmp_path / 'raw', tmp_path / 'store', data_patients='volume')
    done = subprocess.run(command('compare', config, tmp_path / 'run'), capture_output=True, text=True)
    assert done.returncode == 2
    assert 'volume-0 and volume-8 are the same scan, given to different patients' in done.stderr
    assert not (tmp_path / 'run').exists()


def test_a_fold_is_trained_and_told(config, tmp_path):
    fold = dataclasses.replace(
        config,
        split=dataclasses.replace(config.split, folds=4, fold=3),
        train=dataclasses.replace(config.train, epochs=1),
    )
    train(fold, tmp_path / 'run')
    results = evaluate_run(tmp_path / 'run', 'best', 'test', None)
    assert results['certificate']['sentence'].startswith('split by patient (fold 3 of 0 to 3): 4/2/2 patients')
    assert len(results['cases']) == 2
