"""launch/slurm.sbatch on a real SLURM: pre-empted, saved by both ranks, queued again, finished the same."""

import os
import re
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from liver_jax.evaluation.run import load_run
from liver_jax.runtime.telemetry import read_history
from slurm import Slurm, install, wait_for
from small_ct import command, small_config

pytestmark = pytest.mark.long
ROOT = Path(__file__).parent.parent.parent
SCRIPT = ROOT / 'launch' / 'slurm.sbatch'


@pytest.fixture(scope='module')
def slurm(tmp_path_factory):
    install()
    with Slurm(tmp_path_factory.mktemp('slurm')) as slurm:
        yield slurm


@pytest.fixture
def tools(tmp_path):
    """A folder for PATH with `liver-jax` of this checkout."""
    file = tmp_path / 'bin' / 'liver-jax'
    file.parent.mkdir()
    file.write_text(f'#!/bin/sh\nexec {sys.executable} -m liver_jax "$@"\n')
    file.chmod(0o755)
    return file.parent


def submit(slurm, tools, config, workdir):
    """The number of the job."""
    flags = [
        '--parsable', '--nodes=1', '--ntasks-per-node=2', '--gpus-per-node=0', '--cpus-per-task=1', '--chdir=/',
        f'--output={workdir}.log',
    ]  # fmt: skip
    return slurm.run(
        'sbatch', *flags, str(SCRIPT), *command('train', config, workdir)[3:],
        PATH=f'{tools}:{os.environ["PATH"]}', PYTHONPATH=str(ROOT), JAX_NUM_CPU_DEVICES='1',
    ).strip()  # fmt: skip


def results(workdir):
    rows = [{k: v for k, v in row.items() if not k.startswith('pace/')} for row in read_history(workdir)]
    return load_run(workdir, 'latest').variables, rows


def test_a_preempted_job_saves_is_queued_again_and_ends_like_an_undisturbed_one(slurm, tools, tmp_path):
    from liver_jax.data.phantom import make_phantoms
    from liver_jax.data.prepare import prepare

    make_phantoms(tmp_path / 'raw', 4, 0)
    config = small_config(tmp_path / 'raw', tmp_path / 'store', train_epochs=12)
    prepare(config.data)
    undisturbed, preempted = tmp_path / 'undisturbed', tmp_path / 'preempted'
    job = submit(slurm, tools, config, undisturbed)
    wait_for(lambda: slurm.state(job) in ('COMPLETED', 'FAILED', ''), 'the end of the job', 300)
    assert 'finished at step' in undisturbed.with_suffix('.log').read_text()

    job, log = submit(slurm, tools, config, preempted), preempted.with_suffix('.log')
    wait_for(lambda: log.exists() and 'epoch 2 of 12' in log.read_text(), 'the second epoch', 120)
    slurm.run('scancel', '--signal=TERM', job)
    wait_for(lambda: slurm.state(job) == 'PENDING', 'the requeue', 120)
    stopped = log.read_text()
    assert 'saved in' in stopped
    assert 'is saved and goes back into the queue' in stopped
    exits = re.findall(r'srun: error: \S+ (tasks? \S+:) Exited with exit code (\d+)', stopped)
    assert exits in (
        [('tasks 0-1:', '75')],
        [('task 0:', '75'), ('task 1:', '75')],
        [('task 1:', '75'), ('task 0:', '75')],
    )
    slurm.run('scontrol', 'update', f'JobId={job}', 'StartTime=now+5')
    # (SLURM lets a requeued job wait two minutes, but revokes the credential of one that starts in the same second.)
    wait_for(lambda: slurm.state(job) in ('COMPLETED', 'FAILED', ''), 'the end of the job', 300)
    whole = log.read_text()
    assert whole.startswith(stopped)  # appended to
    assert 'going on from step' in whole
    assert 'finished at step' in whole
    (latest, rows), (expected_latest, expected_rows) = results(preempted), results(undisturbed)
    assert rows == expected_rows
    jax.tree.map(np.testing.assert_array_equal, latest, expected_latest)
