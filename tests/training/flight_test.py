"""Flight records come back as they were written, or say what is wrong with them."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from liver_jax.errors import UserError
from liver_jax.training.flight import (
    Flight,
    config_without_paths,
    fill_state,
    read_flight,
    state_arrays,
    write_flight,
)

STATE = {'step': jnp.int32(3), 'params': {'kernel': jnp.array([1.0, np.nan], jnp.float32)}, 'mean': jnp.bfloat16(1.5)}
DRAWS = np.array([(1.0, 7)], [('noise_std', np.float32), ('noise_seed', np.uint32)])


@pytest.fixture
def record(config, tmp_path):
    about = {'step': 4, 'value': float('nan'), 'config': config_without_paths(config)}
    size = write_flight(tmp_path / 'flight-4', Flight(about, {'draws': DRAWS}, state_arrays(STATE)))
    assert size == sum(file.stat().st_size for file in (tmp_path / 'flight-4').iterdir())
    return tmp_path / 'flight-4'


def test_what_is_written_is_read(record, config):
    flight = read_flight(record)
    assert flight.about['value'] == 'nan'
    assert flight.batch['draws'] == DRAWS
    state = fill_state(jax.eval_shape(lambda: STATE), flight.state)
    assert state['mean'].dtype == jnp.bfloat16
    assert jax.tree.all(jax.tree.map(lambda a, b: np.asarray(a).tobytes() == np.asarray(b).tobytes(), state, STATE))
    assert dataclasses.replace(flight.config, data=config.data) == config


def test_it_has_none_of_the_paths(config):
    named = dataclasses.replace(
        config.data, raw='/home/doe', store='/home/doe', patients='/home/doe.csv', images='doe*', labels='doe*'
    )
    assert 'doe' not in json.dumps(config_without_paths(dataclasses.replace(config, data=named)))


def test_an_older_record_of_the_step_is_replaced(record):
    (record / 'older').touch()
    write_flight(record, Flight({'step': 5}, {}, {}))
    assert read_flight(record).about['step'] == 5
    assert sorted(file.name for file in record.parent.iterdir()) == ['flight-4']
    assert not (record / 'older').exists()


@pytest.mark.parametrize('name', ['record.json', 'batch.npz', 'state.npz'])
def test_a_torn_record_is_told(record, name):
    content = (record / name).read_bytes()
    (record / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match='a damaged flight record'):
        read_flight(record)


def test_no_record_and_one_of_another_version_are_told(record, tmp_path):
    with pytest.raises(UserError, match=r'no record\.json there; expected a folder such as'):
        read_flight(tmp_path)
    about = json.loads((record / 'record.json').read_text())
    (record / 'record.json').write_text(json.dumps(about | {'format': 99}))
    with pytest.raises(UserError, match='format 99; expected 1'):
        read_flight(record)


def test_a_state_of_another_network_is_told(record):
    like = jax.eval_shape(lambda: STATE | {'params': {'kernel': jnp.zeros(3)}})
    with pytest.raises(UserError, match=r'params\.kernel is \(2,\); expected \(3,\)'):
        fill_state(like, read_flight(record).state)
