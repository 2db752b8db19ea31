"""Checkpoints: latest and best are kept, a torn one is not seen, restoring on other devices is exact."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from liver_jax.errors import UserError
from liver_jax.runtime.checkpoint import Checkpoints, abstract
from liver_jax.runtime.mesh import make_mesh, replicated


def tree(value, devices=8):
    return jax.device_put({'w': jnp.full((3, 2), float(value)), 'n': jnp.int32(value)}, replicated(make_mesh(devices)))


def save(checkpoints, step, best_step):
    checkpoints.save(step, tree(step), tree(-step), {'best_step': best_step, 'position': {'next_index': step}})


def test_only_latest_and_best_are_kept(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        for step, best in ((1, 1), (2, 2), (3, 2), (4, 2)):
            save(checkpoints, step, best)
    with Checkpoints(tmp_path) as checkpoints:
        assert sorted(path.name for path in tmp_path.iterdir()) == ['2', '4']
        assert (checkpoints.latest_step(), checkpoints.best_step()) == (4, 2)


@pytest.mark.parametrize('devices', [1, 2, 8])
def test_restoring_on_other_devices_is_exact(tmp_path, devices):
    with Checkpoints(tmp_path) as checkpoints:
        save(checkpoints, 5, 5)
    like = abstract(tree(0), replicated(make_mesh(devices)))
    with Checkpoints(tmp_path) as checkpoints:
        model, optimizer, progress = checkpoints.restore(5, like, like)
        alone = checkpoints.restore_model(5, like)
    jax.tree.map(np.testing.assert_array_equal, model, jax.device_get(tree(5)))
    jax.tree.map(np.testing.assert_array_equal, alone, jax.device_get(tree(5)))
    jax.tree.map(np.testing.assert_array_equal, optimizer, jax.device_get(tree(-5)))
    assert progress['position'] == {'next_index': 5}
    assert model['w'].sharding.num_devices == devices


def test_torn_checkpoint_is_not_taken_for_whole(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        save(checkpoints, 5, 5)
    (tmp_path / '9.orbax-checkpoint-tmp').mkdir()
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest_step() == 5
        save(checkpoints, 9, 9)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest_step() == 9


def test_without_any_score_the_best_is_the_latest_and_says_so(tmp_path, caplog):
    with Checkpoints(tmp_path) as checkpoints:
        save(checkpoints, 3, None)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.best_step() == 3
    assert 'no checkpoint has a validation score' in caplog.text


@pytest.mark.parametrize(('which', 'step'), [('best', 2), ('latest', 4), ('2', 2)])
def test_find_by_name_or_number(tmp_path, which, step):
    with Checkpoints(tmp_path) as checkpoints:
        save(checkpoints, 2, 2)
        save(checkpoints, 4, 2)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.find(which) == step
        with pytest.raises(UserError, match=r'--checkpoint=7: not in .* expected best, latest or a step of 2, 4'):
            checkpoints.find('7')


def test_find_in_an_empty_folder(tmp_path):
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(UserError, match='no checkpoint there yet'):
        checkpoints.find('best')
