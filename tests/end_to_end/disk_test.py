"""A run on a disk of its own, which fills up while it trains, or cannot be written."""

import dataclasses
import os
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest

from liver_jax.errors import UserError
from liver_jax.evaluation.run import load_run
from liver_jax.evaluation.watch import watch
from liver_jax.runtime.checkpoint import Checkpoints
from liver_jax.runtime.telemetry import read_history
from liver_jax.training.loop import train
from small_ct import command

# The command as it is, on a disk that is full as soon as the first checkpoint, of step 4, is whole.
FILLED = """
import os, sys
from pathlib import Path
from liver_jax.cli import main
from liver_jax.runtime.checkpoint import Checkpoints

save, disk = Checkpoints.save, Path(sys.argv[-1].partition('=')[2]).parent

def saved(self, step, *items):
    save(self, step, *items)
    if step == 4 and self.wait():
        room = os.statvfs(disk)
        (disk / 'ballast').write_bytes(bytes(room.f_bavail * room.f_frsize))

Checkpoints.save = saved
main()
"""


@pytest.fixture(scope='module')
def config(config):
    """Three epochs of four steps, each of them logged."""
    return dataclasses.replace(config, train=dataclasses.replace(config.train, log_every_steps=1))


@pytest.fixture(scope='module')
def unbroken(config, tmp_path_factory):
    return train(config, tmp_path_factory.mktemp('runs') / 'unbroken')


@pytest.fixture
def disk(tmp_path):
    """A disk of 16 MB."""
    subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=16m', 'tmpfs', str(tmp_path)], check=True)
    yield tmp_path
    subprocess.run(['umount', str(tmp_path)], check=True)


@pytest.fixture
def ballast(disk, monkeypatch):
    """What fills the disk as soon as the first checkpoint, of step 4, is whole."""
    save, file = Checkpoints.save, disk / 'ballast'

    def saved(self, step, *items):
        save(self, step, *items)
        if step == 4 and self.wait():
            room = os.statvfs(disk)
            file.write_bytes(bytes(room.f_bavail * room.f_frsize))

    monkeypatch.setattr(Checkpoints, 'save', saved)
    return file


def check_same(workdir, unbroken):
    """The same parameters, best step, and rows of everything but speed."""
    run, expected = load_run(workdir, 'latest'), load_run(unbroken, 'latest')
    jax.tree.map(np.testing.assert_array_equal, run.variables, expected.variables)
    assert run.step == expected.step
    assert load_run(workdir, 'best').step == load_run(unbroken, 'best').step
    found, others = (
        [{name: value for name, value in row.items() if not name.startswith('pace/')} for row in read_history(folder)]
        for folder in (workdir, unbroken)
    )
    assert found == others


def test_a_disk_that_is_full_for_a_while_costs_a_checkpoint_and_no_more(
    config, unbroken, disk, ballast, monkeypatch, caplog
):
    wait = Checkpoints.wait

    def room_is_made_when_it_is_told(self):
        whole = wait(self)
        if not whole:
            assert self.steps() == [4]
            ballast.unlink()
        return whole

    monkeypatch.setattr(Checkpoints, 'wait', room_is_made_when_it_is_told)
    train(config, disk / 'run')
    assert caplog.text.count('a checkpoint could not be saved (No space left on device); going on without it') == 1
    assert 'No space left on device; what is to be written there waits' in caplog.text  # the log
    assert not ballast.exists()
    check_same(disk / 'run', unbroken)


def test_a_disk_that_stays_full_is_an_error_at_the_end_and_the_same_command_goes_on(config, unbroken, disk):
    program = [sys.executable, '-c', FILLED, *command('train', config, disk / 'run')[3:]]
    done = subprocess.run(program, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    said = 'trained, but the last checkpoint could not be saved; expected room for one, make it'
    assert done.stderr.splitlines()[-1].startswith(f'liver-jax: {disk}/run: {said}')
    assert not [word for word in ('Traceback', 'Exception ignored', 'never retrieved') if word in done.stderr]
    assert load_run(disk / 'run', 'latest').step == 4
    (disk / 'ballast').unlink()
    train(config, disk / 'run')
    check_same(disk / 'run', unbroken)


def test_a_run_that_cannot_be_written_is_read_and_refused_to_be_trained(config, unbroken, disk):
    run = shutil.copytree(unbroken, disk / 'run')
    subprocess.run(['mount', '-o', 'remount,ro', str(disk)], check=True)
    said = r'cannot write there \(Read-only file system\); expected a .*'
    for workdir in (run, disk / 'new'):
        with pytest.raises(UserError, match=f'^{workdir}: {said}'):
            train(config, workdir)
    with pytest.raises(UserError, match=f'^{run}/tensorboard/watch_val: {said}'):
        watch(run, 'val')
    assert load_run(run, 'best').step == load_run(unbroken, 'best').step
