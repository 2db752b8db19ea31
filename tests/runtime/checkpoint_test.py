"""Checkpoints: the newest two and the best are kept, a torn or damaged one is never loaded, restoring is exact."""

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import multihost_utils

from liver_jax.errors import UserError
from liver_jax.files import Appended
from liver_jax.runtime import orbax_manager
from liver_jax.runtime.checkpoint import Checkpoints, abstract
from liver_jax.runtime.mesh import make_mesh, replicated


def tree(value, devices=8):
    return jax.device_put({'w': jnp.full((3, 2), float(value)), 'n': jnp.int32(value)}, replicated(make_mesh(devices)))


def save(checkpoints, step, best_step):
    checkpoints.save(step, tree(step), tree(-step), {'best_step': best_step, 'position': {'next_index': step}})


def test_the_newest_two_and_the_best_as_of_each_are_kept(tmp_path):
    for steps, kept in ((((1, 1), (2, 2), (3, 2), (4, 2)), {'2', '3', '4'}), (((5, 5), (6, 6)), {'5', '6'})):
        with Checkpoints(tmp_path) as checkpoints:
            for step, best in steps:
                save(checkpoints, step, best)
        assert {path.name for path in tmp_path.iterdir()} == kept
        with Checkpoints(tmp_path) as checkpoints:
            assert (checkpoints.latest_step(), checkpoints.best_step()) == steps[-1]


def test_going_back_by_one_finds_its_best_too(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        for step, best in ((1, 1), (2, 1), (3, 1)):
            save(checkpoints, step, best)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.newest(checkpoints.progress)
        save(checkpoints, 4, 4)
        checkpoints.wait()
        assert checkpoints.steps() == [1, 3, 4]  # the best as of 3 is 1


def test_saving_does_not_count_among_the_safe_points(tmp_path, monkeypatch):
    """JAX has one count of them for a process, the loop's; a step fed to it has processes wait for another stop."""
    asked = []
    monkeypatch.setattr(multihost_utils, 'reached_preemption_sync_point', asked.append)
    with Checkpoints(tmp_path) as checkpoints:
        save(checkpoints, 1000, 1000)
    assert asked == []


@pytest.mark.parametrize('devices', [1, 2, 8])
def test_restoring_on_other_devices_is_exact(tmp_path, devices):
    with Checkpoints(tmp_path) as checkpoints:
        save(checkpoints, 5, 5)
    like = abstract(tree(0), replicated(make_mesh(devices)))
    with Checkpoints(tmp_path) as checkpoints:
        model, optimizer = checkpoints.restore(5, like, like)
        progress = checkpoints.progress(5)
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
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        assert checkpoints.latest_step() == 5
        assert (tmp_path / '9.orbax-checkpoint-tmp').exists()  # another process may be writing it
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest_step() == 5
        assert not (tmp_path / '9.orbax-checkpoint-tmp').exists()
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


def test_a_step_that_is_there_gets_new_progress_alone(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        save(checkpoints, 5, None)
        save(checkpoints, 5, 5)
        assert checkpoints.progress(5)['best_step'] == 5
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.best_step() == 5
        assert checkpoints.steps() == [5]


def test_what_is_said_about_a_checkpoint_comes_back(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(5, tree(5), tree(5), {'best_step': 5}, {'config': {'seed': 3}})
        checkpoints.wait()
        assert checkpoints.about(5)['config'] == {'seed': 3}


def missing(file: Path) -> None:
    file.unlink()


def empty(file: Path) -> None:
    file.write_bytes(b'')


def torn(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flipped(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x40
    file.write_bytes(content)


@pytest.mark.parametrize('damage', [missing, empty, torn, flipped])
def test_no_damage_to_any_file_is_loaded(tmp_path, damage, capfd):
    """Whatever happens to one file of a checkpoint: it is read as it was saved, or the one before is taken."""
    noise = jax.device_put({'w': jax.random.normal(jax.random.key(0), (50, 40))}, replicated(make_mesh()))
    like = abstract(noise, replicated(make_mesh()))
    with Checkpoints(tmp_path / 'whole') as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, noise, noise, {'best_step': step}, {})
    went_back = 0
    names = [path.relative_to(tmp_path / 'whole') for path in (tmp_path / 'whole' / '2').rglob('*') if path.is_file()]
    for name in names:
        folder = tmp_path / str(name).replace('/', '-')
        shutil.copytree(tmp_path / 'whole', folder)
        damage(folder / name)
        with Checkpoints(folder) as checkpoints:
            step, restored = checkpoints.newest(
                lambda step: (checkpoints.progress(step), checkpoints.restore(step, like, like))
            )
        step = step['best_step']
        assert step == (1 if (folder / 'damaged-2').exists() else 2)
        went_back += step == 1
        jax.tree.map(np.testing.assert_array_equal, restored, jax.device_get((noise, noise)))
    assert went_back >= 6  # arrays of model and optimizer, their metadata, progress, about
    assert 'Traceback' not in capfd.readouterr().err  # of threads of C++ too


def test_damage_is_told_of_and_the_step_can_be_saved_again(tmp_path, caplog):
    with Checkpoints(tmp_path) as checkpoints:
        for step in (1, 2):
            save(checkpoints, step, 1)
    empty(tmp_path / '2' / 'progress' / 'metadata')
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.newest(checkpoints.progress)['position'] == {'next_index': 1}
        save(checkpoints, 2, 1)
    (told,) = [record.message for record in caplog.records if record.name.startswith('liver_jax')]
    assert told == 'checkpoint 2 is damaged (progress cannot be read); moved to damaged-2, going on from 1'
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.newest(checkpoints.progress)['position'] == {'next_index': 2}


def test_nothing_but_damaged_checkpoints_is_an_error_and_not_a_fresh_start(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        save(checkpoints, 1, 1)
        save(checkpoints, 2, 1)
    kept = sorted(tmp_path.iterdir())
    for step in ('1', '2'):
        missing(tmp_path / step / 'progress' / 'metadata')
    for _ in range(2):  # every time
        with Checkpoints(tmp_path) as checkpoints, pytest.raises(UserError, match=r'every .* damaged \(2: .*, 1: pro'):
            checkpoints.newest(checkpoints.progress)
    assert sorted(tmp_path.iterdir()) == kept
    with Checkpoints(tmp_path / 'new') as checkpoints:
        assert checkpoints.newest(checkpoints.progress) is None


def test_damaged_checkpoints_put_aside_and_no_other_are_no_fresh_start(tmp_path):
    (tmp_path / 'damaged-8').mkdir()
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(UserError, match=r'every .* damaged \(damaged-8\); expec'):
        checkpoints.newest(checkpoints.progress)


@pytest.mark.parametrize('item', ['model', 'progress'])
def test_a_damaged_best_checkpoint_is_told_of(tmp_path, caplog, item):
    with Checkpoints(tmp_path) as checkpoints:
        for step in (1, 2):
            save(checkpoints, step, 1)
    like = abstract(tree(0), replicated(make_mesh()))
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.warn_of_damaged_best(like)
        assert not caplog.records
        shutil.rmtree(tmp_path / '1' / item)
        checkpoints.warn_of_damaged_best(like)
    (told,) = [record.message for record in caplog.records if record.name.startswith('liver_jax')]
    assert told.startswith(f'checkpoint 1, the best, is damaged ({item} cannot be read)')
    assert told.endswith('scores need --checkpoint=latest')


def test_another_network_is_not_taken_for_damage(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        save(checkpoints, 1, 1)
    other = abstract({**tree(0), 'more': jnp.zeros(2)}, replicated(make_mesh()))
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(UserError, match='of another network'):
        checkpoints.newest(lambda step: checkpoints.restore(step, other, other))
    assert (tmp_path / '1').is_dir()


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 16 MB."""
    subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=16m', 'tmpfs', str(tmp_path)], check=True)
    yield tmp_path
    subprocess.run(['umount', str(tmp_path)], check=True)


def test_a_full_disk_costs_a_checkpoint_and_no_more(small_disk, caplog):
    noise = jax.device_put({'w': jax.random.normal(jax.random.key(0), (500, 1000))}, replicated(make_mesh()))
    like = abstract(noise, replicated(make_mesh()))
    logging.getLogger('absl').setLevel(logging.CRITICAL)
    with Checkpoints(small_disk / 'run') as checkpoints:
        checkpoints.save(1, noise, noise, {'best_step': 1}, {})
        assert checkpoints.wait()
        (small_disk / 'ballast').write_bytes(bytes(11_000_000))
        checkpoints.save(2, noise, noise, {'best_step': 1}, {})
        assert not checkpoints.wait()
        assert 'a checkpoint could not be saved (No space left on device); going on without it' in caplog.text
        jax.tree.map(np.testing.assert_array_equal, checkpoints.restore(1, like, like), jax.device_get((noise, noise)))
        (small_disk / 'ballast').unlink()
        checkpoints.save(3, noise, noise, {'best_step': 1}, {})
        assert checkpoints.wait()
        assert {path.name for path in (small_disk / 'run').iterdir()} == {'1', '3'}


def test_what_a_full_disk_refuses_of_a_log_is_written_later(small_disk, caplog):
    log = Appended(small_disk / 'rows')
    log.write(b'first\n')
    room = os.statvfs(small_disk)
    (small_disk / 'ballast').write_bytes(bytes(room.f_bavail * room.f_frsize))
    many = b'x' * 8000 + b'\n'
    for _ in range(2):
        log.write(many)
        assert (small_disk / 'rows').read_bytes() == b'first\n'  # no half records
    assert caplog.text.count('No space left on device; what is to be written there waits') == 1
    (small_disk / 'ballast').unlink()
    log.write(b'last\n')
    log.close()
    assert (small_disk / 'rows').read_bytes() == b'first\n' + 2 * many + b'last\n'


def of(package):
    return SimpleNamespace(cr_code=compile('0', f'/packages/{package}/writing.py', 'exec'))


@pytest.mark.parametrize(
    ('broken_off', 'error', 'told'),
    [
        (of('orbax'), OSError('No space left on device'), False),
        (of('another'), OSError('No space left on device'), True),
        (None, RuntimeError('Event loop is closed'), False),
        (None, RuntimeError('of another kind'), True),
    ],
)
def test_what_orbax_leaves_behind_is_not_complained_of_later(broken_off, error, told, monkeypatch):
    complaints = []
    monkeypatch.setattr(sys, 'unraisablehook', complaints.append)
    orbax_manager.pass_over_broken_off_saves.__wrapped__()
    sys.unraisablehook(SimpleNamespace(object=broken_off, exc_value=error))
    assert bool(complaints) == told
