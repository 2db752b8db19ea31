"""From synthetic CT to the table and the pictures, by the commands a user types."""

import dataclasses
import json
import os
import socket
import subprocess
import sys

import pytest
from PIL import Image

from liver_jax.compare import compare
from liver_jax.files import locked
from liver_jax.runtime.telemetry import read_history
from small_ct import command, small_config

SCORES = (
    'dice_image',
    'iou_image',
    'ssim',
    'precision_pooled',
    'recall_pooled',
    'f1_pooled',
    'dice_pooled',
    'dice_case',
)
KEYS = (*SCORES, 'parameters', 'gflops', 'best_step')


def run(*arguments, code=0):
    done = subprocess.run(arguments, capture_output=True, text=True, env={**os.environ, 'COLUMNS': '90'})
    assert done.returncode == code, done.stderr
    return done


def liver_jax(name, *flags, code=0):
    return run(sys.executable, '-m', 'liver_jax', name, *flags, code=code)


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
    """A finished comparison of tiny networks on four synthetic patients."""
    folder = tmp_path_factory.mktemp('compare')
    liver_jax('phantom', f'--out={folder}/raw', '--patients=4')
    config = small_config(folder / 'raw', folder / 'store', train_epochs=2)
    done = run(*command('compare', config, folder / 'run'))
    (folder / 'stdout').write_text(done.stdout)
    return folder / 'run'


def test_comparison_json_has_the_protocol_and_both_models(workdir):
    comparison = json.loads((workdir / 'comparison.json').read_text())
    protocol = comparison['protocol']
    assert (protocol['target'], protocol['slices'], protocol['split']) == ('tumor', 'tumor', 'patient')
    assert sum(part['patients'] for part in protocol['counts'].values()) == 4
    sentence = 'split by patient: 2/1/1 patients, no patient and no volume in two parts'
    assert protocol['certificate']['sentence'] == sentence
    assert f'- Certificate: {sentence}.' in (workdir / 'comparison.md').read_text().splitlines()
    for name in ('unet', 'resunet'):
        assert set(KEYS) <= comparison['models'][name].keys()
    assert comparison['models']['resunet']['parameters'] > comparison['models']['unet']['parameters'] > 1000
    assert comparison['baselines']['all_zero']['dice_image'] == 0


def test_both_networks_read_the_same_split_and_slices(workdir):
    splits = {(workdir / name / 'split.json').read_bytes() for name in ('.', 'unet', 'resunet')}
    assert len(splits) == 1
    learning = [
        [(row['step'], row['train/learning_rate']) for row in read_history(workdir / name) if 'train/loss' in row]
        for name in ('unet', 'resunet')
    ]
    assert learning[0] == learning[1] != []


def test_table_and_places_are_printed(workdir):
    text = (workdir.parent / 'stdout').read_text()
    comparison = json.loads((workdir / 'comparison.json').read_text())
    for name, display in (('unet', 'U-Net'), ('resunet', 'ResU-Net')):
        line = next(line for line in text.splitlines() if line.startswith(display))
        assert f'{comparison["models"][name]["dice_image"]:.4f}' in line
    assert f'{workdir}/figures/' in text
    assert f'{workdir}/comparison.md' in text
    assert max(map(len, text.splitlines()[:20])) <= 90


def test_whole_scans_are_scored_in_every_output(workdir):
    volumes = json.loads((workdir / 'comparison.json').read_text())['volumes']
    (case,) = volumes['cases']
    assert case['lesions'][0]['dice'].keys() == volumes['networks'].keys() == {'unet', 'resunet'}
    for name, network in volumes['networks'].items():
        own = json.loads((workdir / name / 'evaluation' / 'test.json').read_text())['volumes']
        assert own['networks'] == {name: network}
    shown = f'| Dice per case | {volumes["networks"]["unet"]["mean"]["tumor.dice"]:.4f} |'
    assert shown in (workdir / 'comparison.md').read_text()
    assert 'WHOLE SCANS AT NATIVE RESOLUTION' in (workdir.parent / 'stdout').read_text()


@pytest.mark.parametrize('name', ['best', 'median', 'worst', 'smallest_lesions', 'training_curves'])
def test_pictures_are_there(workdir, name):
    with Image.open(workdir / 'figures' / f'{name}.png') as picture:
        assert min(picture.size) > 200


def test_evaluate_gives_the_numbers_of_the_table(workdir):
    liver_jax('evaluate', f'--workdir={workdir}/unet')
    results = json.loads((workdir / 'unet' / 'evaluation' / 'test.json').read_text())
    expected = json.loads((workdir / 'comparison.json').read_text())['models']['unet']
    assert {key: results['summary'][key] for key in SCORES} == {key: expected[key] for key in SCORES}
    assert 'both empty are undefined' in results['empty_rule']
    assert len(results['images']) == sum(case['slices'] for case in results['cases'])


def test_evaluate_scores_other_volumes_prepared_the_same_way(workdir, raw):
    liver_jax('evaluate', f'--workdir={workdir}/unet', '--checkpoint=latest', f'--raw={raw}')
    results = json.loads((workdir / 'unet' / 'evaluation' / 'external.json').read_text())
    assert {case['case'] for case in results['cases']} == {f'volume-{number}' for number in range(8)}


def test_a_second_call_trains_nothing(workdir):
    config = small_config(workdir.parent / 'raw', workdir.parent / 'store', train_epochs=2)
    done = run(*command('compare', config, workdir))
    assert done.stderr.count('already finished') == 2
    assert 'epoch' not in done.stderr


def test_another_config_is_refused_by_name(workdir):
    config = small_config(workdir.parent / 'raw', workdir.parent / 'store', train_epochs=3)
    done = run(*command('compare', config, workdir), code=2)
    assert 'train.epochs: 2 -> 3' in done.stderr.splitlines()[-1]


def test_slice_split_warns_everywhere(workdir, tmp_path, monkeypatch):
    config = small_config(workdir.parent / 'raw', workdir.parent / 'store', train_epochs=1, split_by='slice')
    done = run(*command('compare', config, tmp_path / 'run'))
    warning = 'neighbouring slices of one patient'
    assert warning in done.stdout.replace('\n', ' ')
    assert warning in done.stderr
    assert warning in (tmp_path / 'run' / 'comparison.md').read_text()
    assert warning in json.loads((tmp_path / 'run' / 'comparison.json').read_text())['protocol']['warning']
    for name in ('unet', 'resunet'):
        assert warning in json.loads((tmp_path / 'run' / name / 'evaluation' / 'test.json').read_text())['warning']
        assert warning in json.loads((tmp_path / 'run' / name / 'split.json').read_text())['certificate']['warning']
    scored = liver_jax('evaluate', f'--workdir={tmp_path}/run/unet', '--split=val')
    assert warning in scored.stdout.replace('\n', ' ')
    assert warning in json.loads((tmp_path / 'run' / 'unet' / 'evaluation' / 'val.json').read_text())['warning']
    drawn = {}
    monkeypatch.setattr('liver_jax.compare.draw_panels', lambda path, *values: drawn.update({path.stem: values[-1]}))
    monkeypatch.setattr('liver_jax.compare.draw_curves', lambda path, *values: drawn.update({path.stem: values[1]}))
    compare(config, tmp_path / 'run', 80)
    assert len(drawn) == 5
    assert all(warning in text for text in drawn.values())


def test_an_update_that_is_not_finite_is_never_saved(config, tmp_path):
    # Loss and gradient of the first step are finite, and so are the new parameters; their norm is past all floats.
    wild = dataclasses.replace(config, optim=dataclasses.replace(config.optim, learning_rate=1e38, warmup_epochs=0.0))
    done = run(*command('train', wild, tmp_path / 'run'), code=2)
    assert 'the update norm is inf at step 1; this state is not saved;' in done.stderr.splitlines()[-1]
    assert not list((tmp_path / 'run' / 'checkpoints').glob('[0-9]*'))


def test_a_second_job_on_a_run_folder_is_refused_by_the_first_one(config, tmp_path):
    with locked(tmp_path / 'run'):
        done = run(*command('train', config, tmp_path / 'run'), code=2)
    assert f'process {os.getpid()} on {socket.gethostname()} is working there' in done.stderr.splitlines()[-1]


def test_a_comparison_goes_on_without_its_raw_volumes(workdir, tmp_path):
    gone = small_config(tmp_path / 'gone', workdir.parent / 'store', train_epochs=2)
    done = run(*command('compare', gone, workdir))
    assert 'is gone; going on with the slices' in done.stderr
    assert done.stderr.count('already finished') == 2


def test_batch_that_eight_devices_cannot_share_is_refused(config, tmp_path):
    odd = dataclasses.replace(config, train=dataclasses.replace(config.train, batch_size=12))
    done = run(*command('train', odd, tmp_path / 'run'), code=2)
    assert 'train.batch_size is 12; expected a multiple of the 8 devices' in done.stderr
    assert not (tmp_path / 'run').exists()
