"""Asked to stop, a run saves, says so with its exit code, and the same command ends as if nobody had asked."""

import dataclasses
import os
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest

from liver_jax.evaluation.run import load_run
from liver_jax.runtime.interrupt import RESUME_CODE
from liver_jax.runtime.telemetry import read_history
from liver_jax.training.loop import train
from small_ct import command

# The command as it is, which at the n-th time that it starts to score or passes a step does something to itself.
STOPPED = """
import itertools, os, signal, sys
from pathlib import Path
from liver_jax.cli import main
from liver_jax.evaluation import evaluate
from liver_jax.training.meter import Meter

what, count, workdir = sys.argv.pop(1), int(sys.argv.pop(1)), sys.argv[-1].partition('=')[2]
times = itertools.count(1)

def counted(function):
    def call(*arguments, **named):
        if next(times) == count:
            Path(workdir, 'stop').touch() if what == 'file' else os.kill(os.getpid(), signal.SIGTERM)
        return function(*arguments, **named)
    return call

if what == 'evaluation':
    evaluate.eval_batches = counted(evaluate.eval_batches)
elif what == 'scoring':
    from liver_jax import pairs
    pairs.load_run = counted(pairs.load_run)
else:
    Meter.add = counted(Meter.add)
main()
"""


@pytest.fixture(scope='module')
def config(config):
    """Three epochs of four steps."""
    return dataclasses.replace(config, train=dataclasses.replace(config.train, log_every_steps=3))


@pytest.fixture(scope='module')
def unbroken(config, tmp_path_factory):
    return train(config, tmp_path_factory.mktemp('runs') / 'unbroken')


def stopped(config, workdir, what: str, count: int, name: str = 'train') -> subprocess.CompletedProcess[str]:
    return run(what, count, command(name, config, workdir)[3:])


def run(what: str, count: int, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, '-c', STOPPED, what, str(count), *arguments]
    done = subprocess.run(program, capture_output=True, text=True, timeout=300)
    assert not [word for word in ('Traceback', 'Exception ignored', 'leaked') if word in done.stderr], done.stderr
    return done


def check_ends_alike(config, workdir, unbroken):
    train(config, workdir)
    run, expected = load_run(workdir, 'latest'), load_run(unbroken, 'latest')
    assert run.step == expected.step
    jax.tree.map(np.testing.assert_array_equal, run.variables, expected.variables)


def test_sigterm_in_validation_breaks_it_off_and_it_is_done_again(config, unbroken, tmp_path):
    done = stopped(config, tmp_path / 'run', 'evaluation', 1)
    assert done.returncode == RESUME_CODE
    assert 'stopped at step 4 of 12, saved in' in done.stderr
    assert not [row for row in read_history(tmp_path / 'run') if 'val/loss' in row]
    check_ends_alike(config, tmp_path / 'run', unbroken)
    steps = [row['step'] for row in read_history(tmp_path / 'run') if 'val/loss' in row]
    assert steps == [4, 8, 12]


def test_a_stop_file_ends_with_an_evaluation_and_exit_code_0(config, unbroken, tmp_path):
    done = stopped(config, tmp_path / 'run', 'file', 1)
    assert done.returncode == 0
    assert f'({tmp_path}/run/stop was there and is removed); the same command goes on' in done.stderr
    assert not (tmp_path / 'run' / 'stop').exists()
    ended = load_run(tmp_path / 'run', 'latest').step
    assert [row['step'] for row in read_history(tmp_path / 'run') if 'val/loss' in row][-1] == ended
    check_ends_alike(config, tmp_path / 'run', unbroken)


def test_a_time_budget_ends_alike(config, unbroken, tmp_path):
    """A few milliseconds are over before the first step; the next call has none."""
    brief = dataclasses.replace(config, train=dataclasses.replace(config.train, max_hours=1e-6))
    done = stopped(brief, tmp_path / 'run', 'never', 0)
    assert done.returncode == 0
    assert done.stdout == ''  # by which a script tells it from a finished run
    assert 'ended at step 0 of 12' in done.stderr
    assert '(train.max_hours=1e-06 are over); the same command goes on' in done.stderr
    check_ends_alike(config, tmp_path / 'run', unbroken)


def test_a_signal_while_it_starts_leaves_at_once_and_nothing_half(config, tmp_path):
    workdir = tmp_path / 'run'
    with subprocess.Popen(command('train', config, workdir), stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if line.startswith('compiling'):
                process.send_signal(signal.SIGTERM)
                break
        rest = process.stderr.read()
    assert process.returncode == RESUME_CODE
    assert rest == 'liver-jax: stopped by SIGTERM; start the same command again\n'
    assert not list(workdir.rglob('*.partial'))


def test_a_signal_in_evaluate_leaves_at_once_and_writes_nothing(unbroken):
    done = run('evaluation', 1, ['evaluate', f'--workdir={unbroken}'])
    assert done.returncode == RESUME_CODE
    assert done.stderr == 'liver-jax: stopped by SIGTERM; start the same command again\n'
    assert not list((unbroken / 'evaluation').iterdir())


@pytest.mark.parametrize(('name', 'number'), [('prepare', signal.SIGTERM), ('compare', signal.SIGINT)])
def test_a_signal_in_preparation_ends_its_workers_and_leaves_nothing_behind(config, tmp_path, name, number):
    """To the whole group of processes, as a terminal sends it."""
    data = dataclasses.replace(config.data, store=str(tmp_path / 'store'), workers=2)
    arguments = command(name, dataclasses.replace(config, data=data), tmp_path / 'run')
    arguments = arguments if name == 'compare' else arguments[:-1]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        for line in process.stderr:
            if 'volumes to prepare' in line:
                os.killpg(process.pid, number)
        # The pipe ends when the last worker has.
    assert process.returncode == RESUME_CODE
    assert line == 'liver-jax: stopped; what is finished is kept; the same command goes on\n'
    assert not (tmp_path / 'store').exists()


@pytest.mark.long
def test_a_comparison_is_stopped_in_every_way_and_goes_on(config, tmp_path):
    short, workdir = dataclasses.replace(config, train=dataclasses.replace(config.train, epochs=1)), tmp_path / 'run'
    brief = dataclasses.replace(short, train=dataclasses.replace(short.train, max_hours=1e-6))
    ended = f'ended at step 1 of 4, saved in {workdir}/unet'
    for asked, what, count, code, said in (
        (short, 'file', 1, 0, f'{ended} ({workdir}/stop was there and is removed)'),
        (brief, 'never', 0, 0, f'{ended} (train.max_hours=1e-06 are over)'),
        (short, 'scoring', 1, RESUME_CODE, 'liver-jax: stopped by SIGTERM; start the same command again'),
    ):
        done = stopped(asked, workdir, what, count, 'compare')
        assert (done.returncode, done.stdout) == (code, '')
        assert said in done.stderr.splitlines()[-1]
        assert not list(workdir.rglob('comparison.*'))
        assert not (workdir / 'stop').exists()
    done = stopped(short, workdir, 'never', 0, 'compare')
    assert done.returncode == 0
    assert done.stderr.count('already finished') == 2
    assert (workdir / 'comparison.json').exists()
