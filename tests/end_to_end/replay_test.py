"""A run that meets a NaN leaves a record, and another process, elsewhere, with one device, meets it again."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from liver_jax.runtime.telemetry import read_history
from small_ct import command


def run(arguments, code, **environment):
    done = subprocess.run(arguments, capture_output=True, text=True, env={**os.environ, **environment})
    assert done.returncode == code, done.stderr
    assert 'Traceback' not in done.stderr
    return done


def replay(record):
    """In a process of its own with one device; it has the record and nothing else."""
    return run([sys.executable, '-m', 'liver_jax', 'replay', str(record)], 0, JAX_NUM_CPU_DEVICES='1').stdout


def contents(record):
    arrays = {name: dict(np.load(record / f'{name}.npz')) for name in ('state', 'batch')}
    return json.loads((record / 'record.json').read_text()), arrays


@pytest.fixture(scope='module')
def diverged(config, tmp_path_factory):
    """Noise that no float can hold, drawn for one slice in fifty: after a checkpoint or two, between two rows."""
    augment = dataclasses.replace(config.augment, noise=0.02, noise_std=3e38)
    wild = dataclasses.replace(
        config, augment=augment, train=dataclasses.replace(config.train, log_every_steps=3, epochs=20)
    )
    workdir = tmp_path_factory.mktemp('runs') / 'run'
    return command('train', wild, workdir), workdir, run(command('train', wild, workdir), 2)


def test_the_run_ends_with_the_step_and_the_command(diverged):
    _, workdir, done = diverged
    (record,) = workdir.glob('flight-*')
    step = int(record.name.partition('-')[2])
    last = done.stderr.splitlines()[-1]
    assert f'the loss is nan at step {step};' in last
    assert last.endswith(f'liver-jax replay {record}')
    assert f'at step {step}; going there again from step {(step - 1) // 4 * 4}' in done.stderr
    assert step > 4
    saved = [int(folder.name) for folder in (workdir / 'checkpoints').glob('[0-9]*')]
    assert max(saved) < step
    assert all(np.isfinite(row['train/loss']) for row in read_history(workdir) if 'train/loss' in row)


def test_the_record_has_all_of_the_step_and_no_paths(diverged, config):
    _, workdir, _ = diverged
    (record,) = workdir.glob('flight-*')
    about, arrays = contents(record)
    text = (record / 'record.json').read_text()
    assert str(workdir.parent) not in text
    assert config.data.raw not in text
    assert config.data.store not in text
    assert (about['what'], about['value'], about['seen_again']) == ('loss', 'nan', True)
    assert arrays['state']['step'] == about['step'] - 1
    assert all(np.isfinite(values).all() for values in arrays['state'].values())
    assert len(about['slices']) == len(arrays['batch']['image']) == len(arrays['batch']['draws']) == 8
    assert {'case', 'slice'} == set(about['slices'][0])
    assert about['found']['numbers']['learning_rate'] > 0
    assert about['found']['numbers']['gradient_norm'] == 'nan'
    # The slice with the noise is the one with the NaN.
    wild = [number for number, (low, _) in enumerate(about['found']['images']) if low == 'nan']
    assert wild == np.flatnonzero(arrays['batch']['draws']['noise_std'] > 1).tolist() != []


def test_replay_meets_it_again_elsewhere(diverged, tmp_path):
    _, workdir, _ = diverged
    (record,) = workdir.glob('flight-*')
    about, _ = contents(record)
    shutil.copytree(record, tmp_path / 'mail')
    lines = replay(tmp_path / 'mail').splitlines()
    assert lines[0] == f'training at step {about["step"]}: the loss was nan; reproduced'
    assert lines[1] == 'recorded in another environment (devices: 8 -> 1)'
    assert lines[2].startswith('loss nan, gradient norm nan, learning rate ')
    assert 'first output that is not finite, from the image on: encoder0.Conv_0' in lines
    assert 'first gradient whose norm is not finite, from the loss back: logits' in lines
    table = lines[lines.index('') + 3 :]
    layers = [line.split()[0] for line in table[: table.index('')]]
    assert layers[0] == 'encoder0.Conv_0'
    assert layers[-1] == 'logits'
    names = [f'{each["case"]}' for each in about['slices']]
    assert [line.split()[0] for line in lines[-8:]] == names
    assert [line.split()[2] for line in lines[-8:]].count('nan') == [low for low, _ in about['found']['images']].count(
        'nan'
    )


def test_the_same_command_ends_in_the_same_record(diverged):
    arguments, workdir, _ = diverged
    (record,) = workdir.glob('flight-*')
    before = contents(record)
    run(arguments, 2)
    (again,) = workdir.glob('flight-*')
    assert again == record
    after = contents(record)
    assert after[0] == before[0]
    for name in ('state', 'batch'):
        assert after[1][name].keys() == before[1][name].keys()
        assert all(values.tobytes() == before[1][name][key].tobytes() for key, values in after[1][name].items())


def test_a_finite_step_is_told_as_not_reproduced(diverged, tmp_path):
    """A colleague mends the draws: the step is a step like others."""
    _, workdir, _ = diverged
    (record,) = workdir.glob('flight-*')
    shutil.copytree(record, tmp_path / 'mended')
    batch = dict(np.load(record / 'batch.npz'))
    batch['draws']['noise_std'] = 0
    np.savez(tmp_path / 'mended' / 'batch.npz', **batch)
    lines = replay(tmp_path / 'mended').splitlines()
    assert lines[0].endswith('here all numbers are finite: NOT REPRODUCED')
    assert 'nan' not in '\n'.join(lines[1:])


def test_a_validation_that_is_not_finite_is_recorded_too(config, tmp_path):
    # One step an epoch: its numbers are finite, but the network that it leads to overflows.
    wild = dataclasses.replace(
        config,
        optim=dataclasses.replace(config.optim, learning_rate=1e15, warmup_epochs=0.0),
        train=dataclasses.replace(config.train, batch_size=64, epochs=1),
    )
    done = run(command('train', wild, tmp_path / 'run'), 2)
    record = tmp_path / 'run' / 'flight-1'
    assert 'the validation loss is nan at step 1;' in done.stderr.splitlines()[-1]
    assert done.stderr.splitlines()[-1].endswith(f'liver-jax replay {record}')
    assert not list((tmp_path / 'run' / 'checkpoints').glob('[0-9]*'))
    lines = replay(record).splitlines()
    assert lines[0] == 'validation at step 1: the validation loss was nan; reproduced'
    assert [line for line in lines if line.startswith('first output that is not finite')]
    assert all(
        line.split()[-1] == 'nan'
        for line in lines[lines.index('case      slice  image min  image max        loss') + 1 :]
    )
