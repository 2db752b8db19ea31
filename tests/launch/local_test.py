"""launch/local.py: real processes over gloo train as one; signals, deaths and errors of a rank end them all."""

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from liver_jax.evaluation.results import evaluate_run
from liver_jax.evaluation.run import load_run
from liver_jax.runtime.interrupt import RESUME_CODE
from liver_jax.runtime.telemetry import read_history
from small_ct import command

ROOT = Path(__file__).parent.parent.parent
LAUNCHER = ROOT / 'launch' / 'local.py'
STEPS = 20
long = pytest.mark.long


@pytest.fixture(scope='module')
def config(config):
    """Twenty steps in five epochs, each of them logged."""
    return dataclasses.replace(config, train=dataclasses.replace(config.train, epochs=5, log_every_steps=1))


def start(processes, devices, arguments):
    """The launcher, with so many fake devices in each process."""
    words = [sys.executable, str(LAUNCHER), f'--processes={processes}', '--', *arguments]
    environment = {**os.environ, 'JAX_NUM_CPU_DEVICES': str(devices), 'PYTHONPATH': str(ROOT)}
    return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def train(processes, devices, config, workdir, until='', then=lambda job: None, name='train'):
    """Train in a job; when a line of its log holds `until`, do something `then`. Exit code and stderr."""
    return train_and(processes, devices, config, workdir, {until: then} if until else {}, name)


def train_and(processes, devices, config, workdir, deeds, name='train'):
    """Train in a job, and do each of the deeds when its words are in the log, once. Exit code and stderr."""
    with start(processes, devices, command(name, config, workdir)[3:]) as job:
        lines, deeds = [], dict(deeds)
        for line in job.stderr:
            lines.append(line)
            for words in [each for each in deeds if each in line]:
                deeds.pop(words)(job)
    return job.returncode, ''.join(lines)


def terminate(job):
    job.send_signal(signal.SIGTERM)


def rows(workdir):
    return [
        {name: value for name, value in row.items() if not name.startswith('pace/')} for row in read_history(workdir)
    ]


def assert_same(found, expected):
    """The same rows, all numbers to 1e-5, but the gradient's norm to 1 %: by rounding one pixel may fall on either side
    of the kink of a ReLU or a maximum, where the gradient jumps and the loss does not.
    """
    assert [row.keys() for row in found] == [row.keys() for row in expected]
    for row, other in zip(found, expected, strict=True):
        norms = [each.pop('train/gradient_norm', 0.0) for each in (row, other)]
        np.testing.assert_allclose(norms[0], norms[1], rtol=0.01)
        np.testing.assert_allclose(list(row.values()), list(other.values()), rtol=0, atol=1e-5)


@pytest.fixture(scope='module')
def reference(config, tmp_path_factory):
    """Trained by one process on one device."""
    workdir = tmp_path_factory.mktemp('reference')
    code, log = train(1, 1, config, workdir)
    assert code == 0, log
    assert [row['step'] for row in rows(workdir) if 'train/loss' in row] == [*range(1, STEPS + 1)]
    return workdir


@pytest.mark.parametrize(
    ('processes', 'devices'),
    [(2, 1), *(pytest.param(*layout, marks=long) for layout in ((1, 2), (1, 4), (1, 8), (4, 1), (2, 4)))],
)
def test_the_numbers_are_the_same_for_any_layout(config, reference, tmp_path, processes, devices):
    code, log = train(processes, devices, config, tmp_path)
    assert code == 0, log
    assert_same(rows(tmp_path), rows(reference))
    assert log.count('epoch 5 of 5') == 1  # one process speaks


@long
def test_a_run_goes_on_with_other_devices_and_processes(config, reference, tmp_path):
    assert train(1, 8, config, tmp_path, 'epoch 1 of 5', terminate)[0] == RESUME_CODE
    assert train(4, 1, config, tmp_path, 'epoch 3 of 5', terminate)[0] == RESUME_CODE
    code, log = train(1, 2, config, tmp_path)
    assert code == 0
    assert 'processes: 4 -> 1' in log
    assert_same(rows(tmp_path), rows(reference))


@long
def test_what_four_processes_saved_is_scored_by_one(config, tmp_path):
    assert train(4, 2, config, tmp_path)[0] == 0
    with start(1, 1, ['evaluate', f'--workdir={tmp_path}', '--checkpoint=latest', '--split=val']) as job:
        job.communicate()
    assert job.returncode == 0
    on_one = (tmp_path / 'evaluation' / 'val.json').read_text()
    summary = evaluate_run(tmp_path, 'latest', 'val', None)['summary']  # on the eight of this process
    assert on_one
    logged = {name.removeprefix('val/'): value for name, value in rows(tmp_path)[-1].items() if name != 'step'}
    for name, value in logged.items():
        assert summary[name] == pytest.approx(value, abs=1e-5)
    assert load_run(tmp_path, 'latest').step == STEPS


def test_a_killed_process_ends_the_others_and_is_named_last(config, tmp_path):
    endless = dataclasses.replace(config, train=dataclasses.replace(config.train, epochs=5000, patience=5000))
    killed = []

    def kill(job):
        children = Path(f'/proc/{job.pid}/task/{job.pid}/children').read_text().split()
        killed.append(time.monotonic())
        os.kill(int(children[1]), signal.SIGKILL)

    code, log = train(2, 1, endless, tmp_path, 'epoch 1 of', kill)
    assert time.monotonic() - killed[0] < 30
    assert code == 128 + signal.SIGKILL
    assert log.splitlines()[-1] == 'process 1 was killed by signal 9 (for lack of memory, or by hand)'
    assert not [word for word in ('Traceback', 'Error', '***', 'Terminating', 'could not be saved') if word in log], log


def test_an_error_of_one_process_is_shown_last_and_ends_all(config, tmp_path):
    file = tmp_path / 'elsewhere.py'
    file.write_text(
        'import os\n'
        'from configs import default\n'
        'def get_config():\n'
        '    config = default.get_config()\n'
        f'    config.data.store = "nowhere" if os.environ["JAX_PROCESS_ID"] == "1" else "{config.data.store}"\n'
        '    return config\n'
    )
    arguments = [each for each in command('train', config, tmp_path / 'run')[3:] if 'data.store' not in each]
    arguments[1] = f'--config={file}'
    began = time.monotonic()
    with start(2, 1, arguments) as job:
        _, log = job.communicate()
    assert time.monotonic() - began < 60
    assert job.returncode == 2
    assert 'nowhere' in log.strip().splitlines()[-1]
    assert 'process 1 failed first, with code 2' in log


@pytest.mark.parametrize('fault', ['batch', 'folder'])
def test_an_error_of_all_is_told_once(config, reference, fault):
    part = {'batch': {'batch_size': 5}, 'folder': {'epochs': 6}}[fault]
    code, log = train(2, 1, dataclasses.replace(config, train=dataclasses.replace(config.train, **part)), reference)
    assert code == 2
    said = {'batch': 'train.batch_size is 5; expected', 'folder': 'train.epochs: 5 -> 6'}[fault]
    assert log.count(said) == log.count('liver-jax: ') == 1
    assert 'failed first' not in log


def test_a_typo_is_told_once():
    with start(2, 1, ['train', '--conf=configs/unet.py']) as job:
        _, log = job.communicate()
    assert job.returncode == 2
    assert log == "liver-jax: flag '--conf' is not known; did you mean '--config'?\n"


def test_a_signal_saves_in_all_processes(config, reference, tmp_path):
    code, log = train(2, 1, config, tmp_path, 'epoch 1 of 5', terminate)
    assert code == RESUME_CODE, log
    assert log.count('saved in') == 1
    assert load_run(tmp_path, 'latest').step > 0
    assert train(2, 1, config, tmp_path)[0] == 0
    assert_same(rows(tmp_path), rows(reference))


def test_a_signal_while_they_compile_ends_all_at_once(config, tmp_path):
    code, log = train(2, 1, config, tmp_path, 'compiling;', terminate)
    assert code == RESUME_CODE, log
    assert log.splitlines()[-1] == 'liver-jax: stopped by SIGTERM; start the same command again'
    assert log.count('liver-jax: ') == 1


@long
def test_a_disk_that_is_full_for_a_while_costs_two_processes_a_checkpoint_and_no_more(config, reference, tmp_path):
    subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=16m', 'tmpfs', str(tmp_path)], check=True)
    ballast = tmp_path / 'ballast'

    def fill(_):
        with ballast.open('wb', buffering=0) as file, contextlib.suppress(OSError):  # to the last byte
            while True:
                file.write(bytes(4096))

    try:
        deeds = {'epoch 1 of 5': fill, 'could not be saved': lambda _: ballast.unlink()}
        code, log = train_and(2, 1, config, tmp_path / 'run', deeds)
        assert code == 0, log
        assert 'a checkpoint could not be saved (No space left on device); going on without it' in log
        assert_same(rows(tmp_path / 'run'), rows(reference))
        assert load_run(tmp_path / 'run', 'latest').step == STEPS
    finally:
        subprocess.run(['umount', '--lazy', str(tmp_path)], check=True)


@long
def test_a_comparison_of_two_processes_is_stopped_in_every_way_and_goes_on(config, tmp_path):
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, epochs=2))
    brief = dataclasses.replace(config, train=dataclasses.replace(config.train, max_hours=1e-6))
    finished, reason = tmp_path / 'comparison.json', f'{tmp_path}/stop was there and is removed'
    code, log = train(2, 1, config, tmp_path, 'epoch 1 of', lambda job: (tmp_path / 'stop').touch(), 'compare')
    assert (code, log.count(reason), log.count('liver-jax: ')) == (0, 1, 1)
    assert log.count(': val loss') >= 1
    assert not (tmp_path / 'stop').exists()
    code, log = train(2, 1, brief, tmp_path, name='compare')
    assert (code, log.count('train.max_hours=1e-06 are over'), log.count('liver-jax: ')) == (0, 1, 1)
    code, log = train(2, 1, config, tmp_path, 'reading the scores', terminate, 'compare')
    assert code == RESUME_CODE
    assert log.splitlines()[-1] == 'liver-jax: stopped by SIGTERM; start the same command again'
    assert not finished.exists()
    code, log = train(2, 1, config, tmp_path, name='compare')
    assert (code, log.count('already finished')) == (0, 2)
    assert finished.exists()
