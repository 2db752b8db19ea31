"""A long run does not grow, and a run that fails ends with its one error: real processes, 2,000 tiny steps."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from liver_jax.bench.synthetic import synthetic_store
from small_ct import command, small_config

# The command as it is, its memory noted on the way; `maps` are files of shared memory, there or already deleted.
WATCHED = """
import os
from pathlib import Path
from liver_jax.cli import main
from liver_jax.training.meter import Meter

add = Meter.add

def watch(self, step, metrics):
    add(self, step, metrics)
    if step in (500, 2000):
        pages = int(Path('/proc/self/statm').read_text().split()[1])
        print('rss', pages * os.sysconf('SC_PAGE_SIZE'))
        for line in Path('/proc/self/maps').read_text().splitlines():
            if '/dev/shm' in line and not line.endswith('(deleted)'):
                print('shared', line.split()[-1])

Meter.add = watch
main()
"""

# Fails after some batches, here or in the thread that reads.
FAILING = """
from liver_jax.cli import main
from liver_jax.data.store import SliceStore
from liver_jax.errors import UserError
from liver_jax.training.meter import Meter

calls = []

def fail(*_):
    calls.append(1)
    if len(calls) == 30:
        raise {error}
    return normal(*_)

normal, {where} = {where}, fail
main()
"""


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    """429 steps an epoch, five epochs, of a network that has next to nothing to compute."""
    folder = tmp_path_factory.mktemp('random')
    config = small_config(
        folder, folder / 'store', data_raw='', data_image_size=16, model_depth=1, model_width=2,
        train_batch_size=4, train_epochs=5, train_log_every_steps=50,
    )  # fmt: skip
    synthetic_store(folder, 2860, config.data)
    return config


def run(program: str, config, workdir: Path) -> subprocess.CompletedProcess[str]:
    arguments = command('train', config, workdir)[3:]
    environment = {**os.environ, 'JAX_NUM_CPU_DEVICES': '1'}
    return subprocess.run(
        [sys.executable, '-c', program, *arguments], env=environment, capture_output=True, text=True, timeout=120
    )


def noise(stderr: str) -> list[str]:
    """Lines of stderr that are not the log of a run."""
    log = (
        'U-Net', 'split by', 'training slices', 'compiling', 'the devices waited', 'finished at', 'random',
    )  # fmt: skip
    return [line for line in stderr.splitlines() if not line.startswith(log)]


@pytest.mark.skipif(not Path('/proc/self/statm').exists(), reason='memory is read from Linux /proc')
def test_two_thousand_steps_take_no_more_memory_than_five_hundred(config, tmp_path):
    done = run(WATCHED, config, tmp_path / 'run')
    assert done.returncode == 0, done.stderr
    assert noise(done.stderr) == []
    lines = [line.split() for line in done.stdout.splitlines()]
    early, late = (int(value) for what, value in (line[:2] for line in lines) if what == 'rss')
    assert late - early < 10e6  # keeping every batch would take 12 MB and more
    assert not [path for what, path in (line[:2] for line in lines) if what == 'shared' and Path(path).exists()]


@pytest.mark.parametrize(
    ('where', 'error', 'said'),
    [
        ('Meter.add', "UserError('no further')", 'liver-jax: no further'),
        ('SliceStore.images', "OSError(5, 'Input/output error')", 'liver-jax: Input/output error'),
    ],
)
def test_a_run_that_fails_ends_with_its_one_error(config, tmp_path, where, error, said):
    failed = run(FAILING.format(where=where, error=error), config, tmp_path / 'run')
    assert failed.returncode == 2
    assert noise(failed.stderr) == [said]
    assert failed.stdout == ''


def test_an_error_nobody_foresaw_is_the_last_thing_that_is_said(config, tmp_path):
    failed = run(FAILING.format(where='SliceStore.images', error="RuntimeError('a bug')"), config, tmp_path / 'run')
    assert failed.returncode == 1
    lines = noise(failed.stderr)
    assert lines[0] == 'Traceback (most recent call last):'
    after = lines[lines.index('RuntimeError: a bug') + 1 :]
    assert not [line for line in after if not line.startswith(('---', 'For simplicity'))]  # notes on the traceback
    assert failed.stderr.count('Traceback') == 1
