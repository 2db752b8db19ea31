"""Kill it anywhere: SIGKILL at twenty seeded moments, and every run ends as one that nobody touched, bit by bit."""

import dataclasses
import random
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest

from event_files import scalars
from liver_jax.evaluation.run import load_run
from liver_jax.runtime.checkpoint import Checkpoints
from liver_jax.runtime.telemetry import read_history
from liver_jax.training.loop import train
from small_ct import command

# The command as it is, which kills itself at the n-th time that something happens, in whatever thread it does.
KILLED = """
import itertools
import os
import signal
import sys

what, count = sys.argv.pop(1), int(sys.argv.pop(1))
times = itertools.count(1)

def happens():
    if next(times) == count:
        os.kill(os.getpid(), signal.SIGKILL)

def counted(function):
    def call(*arguments, **named):
        happens()
        return function(*arguments, **named)
    return call

def hear(event, arguments):
    place = {'compile': 'xla-tests', 'save': '/checkpoints/', 'log': 'metrics.jsonl'}.get(what)
    if event == what or (place and event in FILES and place in str(arguments[0])):
        happens()

FILES = ('open', 'os.mkdir', 'os.rename', 'os.remove', 'os.rmdir', 'shutil.rmtree')
sys.addaudithook(hear)

from liver_jax.cli import main
if what not in ('import', 'compile', 'save', 'log'):
    from liver_jax.evaluation import evaluate
    from liver_jax.training import feed, meter, progress
    owner, name = {
        'batch': (feed.Feed, 'next_batch'),
        'step': (meter.Meter, 'add'),
        'evaluation': (evaluate, 'ssim_masks'),
        'validated': (progress.Progress, 'after'),
    }[what]
    setattr(owner, name, counted(getattr(owner, name)))
main()
"""

# What is counted, and up to how many times a process lives before it is killed.
MOMENTS = {
    'import': ('start-up', 1500),
    'compile': ('compiling', 12),
    'batch': ('between two steps', 6),
    'step': ('in a step', 6),
    'save': ('during a save', 60),
    'evaluation': ('in evaluation', 12),
    'validated': ('between two epochs', 2),
    'log': ('opening the log', 2),
}
KILLS_OF_A_RUN = (3, 3, 3, 3, 4, 4)  # of the twenty; `make test` does the first run
PACE = 'pace/'  # names of what depends on the machine


def draw_moments() -> list[list[tuple[str, int]]]:
    """Twenty moments, each kind at least twice, dealt to the runs."""
    rng = random.Random(20)
    kinds = ['step', 'save', 'evaluation', *(2 * list(MOMENTS)), 'save']
    later = kinds[3:]
    rng.shuffle(later)
    moments = [(kind, rng.randint(1, MOMENTS[kind][1])) for kind in kinds[:3] + later]
    assert len(moments) == sum(KILLS_OF_A_RUN) == 20
    deal = iter(moments)
    return [[next(deal) for _ in range(kills)] for kills in KILLS_OF_A_RUN]


# The command with a clock that goes back by an hour whenever somebody looks at it.
BACKWARDS = """
import itertools
import time

now, looks = time.time(), itertools.count(1)
time.time = lambda: now - 3600 * next(looks)

from liver_jax.cli import main
main()
"""


@pytest.fixture(scope='module')
def config(config):
    """Six epochs of four steps; rows, checkpoints and epochs end at different steps."""
    part = dataclasses.replace(config.train, epochs=6, log_every_steps=3, save_every_steps=3)
    return dataclasses.replace(config, train=part)


@pytest.fixture(scope='module')
def unbroken(config, tmp_path_factory):
    return train(config, tmp_path_factory.mktemp('runs') / 'unbroken')


@pytest.mark.parametrize(
    'moments', [pytest.param(each, marks=[pytest.mark.long] * bool(n)) for n, each in enumerate(draw_moments())]
)
def test_a_run_that_is_killed_again_and_again_ends_like_an_unbroken_one(config, unbroken, tmp_path, moments):
    workdir = tmp_path / 'run'
    for what, count in moments:
        program = [sys.executable, '-c', KILLED, what, str(count), *command('train', config, workdir)[3:]]
        killed = subprocess.run(program, capture_output=True, text=True, timeout=300)
        assert killed.returncode == -signal.SIGKILL, f'{what} {count}: {killed.stderr}'
        assert 'Traceback' not in killed.stderr
        print(f'| {MOMENTS[what][0]}, {what} {count} | {last_step(workdir)} |')
    train(config, workdir)
    check_same(workdir, unbroken)


def test_a_clock_that_goes_backwards_changes_nothing(config, unbroken, tmp_path):
    workdir = tmp_path / 'run'
    arguments = command('train', config, workdir)[3:]
    program = [sys.executable, '-c', KILLED, 'validated', '2', *arguments]
    assert subprocess.run(program, capture_output=True, timeout=300).returncode == -signal.SIGKILL
    subprocess.run([sys.executable, '-c', BACKWARDS, *arguments], check=True, capture_output=True, timeout=300)
    check_same(workdir, unbroken)


def test_a_damaged_newest_checkpoint_costs_only_the_way_from_the_one_before(config, unbroken, tmp_path, caplog):
    workdir = tmp_path / 'run'
    program = [sys.executable, '-c', KILLED, 'step', '10', *command('train', config, workdir)[3:]]
    assert subprocess.run(program, capture_output=True, timeout=300).returncode == -signal.SIGKILL
    newest = last_step(workdir)
    for file in (workdir / 'checkpoints' / str(newest) / 'optimizer' / 'ocdbt.process_0' / 'd').iterdir():
        file.write_bytes(b'')
    train(config, workdir)
    assert f'checkpoint {newest} is damaged' in caplog.text
    check_same(workdir, unbroken)


def last_step(workdir) -> int:
    """Where the next process goes on."""
    if not (workdir / 'checkpoints').is_dir():
        return 0
    with Checkpoints(workdir / 'checkpoints', read_only=True) as checkpoints:
        return checkpoints.latest_step() or 0


def check_same(workdir, unbroken):
    """Parameters, loss curve and events, bit by bit, every step once."""
    for which in ('latest', 'best'):
        run, expected = load_run(workdir, which), load_run(unbroken, which)
        assert run.step == expected.step
        jax.tree.map(np.testing.assert_array_equal, run.variables, expected.variables)
    assert history(workdir) == history(unbroken)
    assert board(workdir) == board(unbroken)


def history(workdir):
    return [{name: value for name, value in row.items() if not name.startswith(PACE)} for row in read_history(workdir)]


def board(workdir):
    return [event for event in scalars(workdir) if not event[1].startswith(PACE)]
