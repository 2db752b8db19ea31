"""Two real runs with everything that training can do give the same bits, though one of them is killed in between."""

import subprocess

import jax
import numpy as np
import pytest

from liver_jax.data.stream import steps_per_epoch
from liver_jax.evaluation.run import load_run
from liver_jax.runtime.checkpoint import Checkpoints, abstract
from liver_jax.runtime.mesh import make_mesh, replicated
from liver_jax.runtime.telemetry import read_history
from liver_jax.training.recipe import make_recipe
from liver_jax.training.state import state_shape
from small_ct import command, small_config


@pytest.fixture(scope='module')
def everything(config):
    return small_config(
        config.data.raw, config.data.store, train_batch_size=16, train_accumulate=2, train_deterministic=True,
        loss_name='dice_bce', optim_name='adamw',
        optim_weight_decay=0.01, optim_schedule='polynomial', optim_clip_norm=1.0, optim_ema_decay=0.9,
        train_monitor='loss', eval_threshold=0.02,
    )  # fmt: skip


def train(config, workdir, kill_at=''):
    """Run the command; with `kill_at` kill it when a line of the log holds that."""
    with subprocess.Popen(command('train', config, workdir), stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if kill_at and kill_at in line:
                process.kill()
    return process.returncode


def saved(config, workdir):
    """All arrays of the latest checkpoint, and the log without the pace."""
    recipe, mesh = make_recipe(config, steps_per_epoch(28, 16)), make_mesh()
    shapes = abstract(state_shape(recipe, config.data.image_size), replicated(mesh))
    with Checkpoints(workdir / 'checkpoints') as checkpoints:
        step = checkpoints.latest_step()
        variables, unscored = checkpoints.restore(step, shapes.variables, shapes.unscored)
    rows = [{k: v for k, v in row.items() if not k.startswith('pace/')} for row in read_history(workdir)]
    return step, variables, unscored, rows


def test_two_runs_are_the_same_bit_for_bit(everything, tmp_path):
    assert train(everything, tmp_path / 'one') == 0
    assert train(everything, tmp_path / 'two', kill_at='epoch 1 of 3') == -9
    assert train(everything, tmp_path / 'two') == 0
    (step, variables, unscored, rows), other = (saved(everything, tmp_path / name) for name in ('one', 'two'))
    assert step == other[0] > 0
    jax.tree.map(np.testing.assert_array_equal, (variables, unscored), other[1:3])
    assert rows == other[3]
    # What is scored is the average, not what was trained.
    scored = load_run(tmp_path / 'one', 'latest').variables
    jax.tree.map(np.testing.assert_array_equal, scored, variables)
    difference = jax.tree.map(lambda a, b: np.abs(a - b).max(), scored, unscored['trained'])
    assert max(jax.tree.leaves(difference)) > 1e-3
