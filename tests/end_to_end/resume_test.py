"""Broken-off runs go on exactly: real processes, real signals, compared with an unbroken run bit by bit."""

import dataclasses
import signal
import subprocess

import jax
import numpy as np
import pytest

from liver_jax.evaluation.run import load_run
from liver_jax.runtime.interrupt import RESUME_CODE
from liver_jax.runtime.telemetry import read_history
from liver_jax.training.loop import train
from small_ct import command


@pytest.fixture(scope='module')
def config(config):
    """Logs every third of four steps an epoch: checkpoints fall between two rows of the log."""
    return dataclasses.replace(config, train=dataclasses.replace(config.train, log_every_steps=3))


@pytest.fixture(scope='module')
def unbroken(config, tmp_path_factory):
    return train(config, tmp_path_factory.mktemp('runs') / 'unbroken')


def start_and_signal(config, workdir, when, number):
    """Start training, send the signal when a line of the log holds `when`; the exit code."""
    with subprocess.Popen(command('train', config, workdir), stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if when in line:
                process.send_signal(number)
                break
        rest = process.stderr.read()
    assert not [word for word in ('Traceback', 'Exception ignored', 'leaked') if word in rest]
    return process.returncode


def results(workdir):
    """Parameters of the latest and the best checkpoint, and the log without the pace."""
    rows = [{k: v for k, v in row.items() if not k.startswith('pace/')} for row in read_history(workdir)]
    return load_run(workdir, 'latest'), load_run(workdir, 'best'), rows


@pytest.mark.parametrize(
    ('when', 'number', 'code'),
    [
        ('epoch 1 of 3', signal.SIGKILL, -signal.SIGKILL),
        ('epoch 2 of 3', signal.SIGTERM, RESUME_CODE),
        ('split by patient', signal.SIGINT, RESUME_CODE),
    ],
    ids=['killed after an epoch', 'terminated in training', 'interrupted while compiling'],
)
def test_a_broken_off_run_ends_like_an_unbroken_one(config, unbroken, tmp_path, when, number, code):
    workdir = tmp_path / 'run'
    assert start_and_signal(config, workdir, when, number) == code
    train(config, workdir)
    latest, best, rows = results(workdir)
    expected_latest, expected_best, expected_rows = results(unbroken)
    assert (latest.step, best.step) == (expected_latest.step, expected_best.step)
    jax.tree.map(np.testing.assert_array_equal, latest.variables, expected_latest.variables)
    jax.tree.map(np.testing.assert_array_equal, best.variables, expected_best.variables)
    assert rows == expected_rows


def test_a_finished_run_is_not_trained_again(config, unbroken, caplog):
    before = contents(unbroken)
    with caplog.at_level('INFO', 'liver_jax'):
        train(config, unbroken)
    assert 'already finished' in caplog.text
    assert before == contents(unbroken)


def contents(folder):
    """Every file with the time it was last written, but for the lock."""
    files = (path for path in folder.rglob('*') if path.is_file() and path.name != '.lock')
    return sorted((path, path.stat().st_mtime_ns) for path in files)
