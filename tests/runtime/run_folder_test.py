"""The run folder keeps its config, and what is written there is whole and strict."""

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from configs import default
from liver_jax.config import Config, config_from
from liver_jax.errors import UserError
from liver_jax.files import write_atomically
from liver_jax.runtime.run_folder import open_run, read_run_config, write_json


def make_config(**fields: Any) -> Config:
    """The default config; overrides as `optim__learning_rate=1`."""
    values = copy.deepcopy(default.get_config().to_dict())
    for name, value in fields.items():
        group, _, field = name.rpartition('__')
        (values[group] if group else values)[field] = value
    return config_from(values)


def test_a_new_run_remembers_its_config(tmp_path):
    config = make_config(data__raw='/data/lits', seed=3)
    open_run(tmp_path / 'runs' / 'first', config)
    assert read_run_config(tmp_path / 'runs' / 'first') == config
    assert [path.name for path in (tmp_path / 'runs' / 'first').iterdir()] == ['config.json']


def test_the_same_config_goes_on_and_nothing_is_written(tmp_path):
    open_run(tmp_path, make_config())
    before = (tmp_path / 'config.json').stat()
    open_run(tmp_path, make_config())
    after = (tmp_path / 'config.json').stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_another_config_is_refused_with_every_field_that_differs(tmp_path):
    open_run(tmp_path, make_config())
    with pytest.raises(UserError, match='made with another config') as refusal:
        open_run(tmp_path, make_config(seed=1, optim__learning_rate=3e-4, data__workers=7))
    assert '(seed: 0 -> 1; optim.learning_rate: 0.001 -> 0.0003); ' in str(refusal.value)
    assert read_run_config(tmp_path) == make_config()


@pytest.mark.parametrize('field', [field.name for field in dataclasses.fields(Config) if field.name != 'seed'])
def test_every_part_of_the_config_is_compared(tmp_path, field):
    other = {
        'data': {'data__target': 'liver'},
        'split': {'split__seed': 1},
        'augment': {'augment__flip': 0.0},
        'model': {'model__norm': 'group'},
        'loss': {'loss__name': 'dice'},
        'optim': {'optim__b2': 0.99},
        'train': {'train__accumulate': 2},
        'eval': {'eval__threshold': 0.4},
        'compare': {'compare__folds': 3},
    }[field]
    open_run(tmp_path, make_config())
    with pytest.raises(UserError, match=next(iter(other)).replace('__', r'\.')):
        open_run(tmp_path, make_config(**other))


@pytest.mark.parametrize(
    'free', [{'data__raw': '/elsewhere'}, {'data__workers': 9}, {'model__remat': True}, {'train__log_every_steps': 1}]
)
def test_what_changes_only_where_or_how_fast_may_differ(tmp_path, free):
    open_run(tmp_path, make_config())
    open_run(tmp_path, make_config(**free))
    assert read_run_config(tmp_path) == make_config(**free)  # the folder follows, for evaluate reads it


def test_a_folder_without_run_says_what_was_expected(tmp_path):
    with pytest.raises(UserError, match=r'no config\.json there; expected a folder made by `liver-jax train`'):
        read_run_config(tmp_path)


@pytest.mark.parametrize(
    ('content', 'said'),
    [
        ('', 'cannot be read'),
        ('{"seed": 0', 'cannot be read'),
        ('[]', r'config field config is \[\]'),
        ('{"seed": 0}', 'missing data, split'),
        ('{"seeed": 0}', "'seeed' is not known; did you mean 'seed'"),
    ],
)
def test_a_damaged_config_is_refused_with_its_file(tmp_path, content, said):
    (tmp_path / 'config.json').write_text(content)
    for action in (lambda: read_run_config(tmp_path), lambda: open_run(tmp_path, make_config())):
        with pytest.raises(UserError, match=said) as refusal:
            action()
        assert str(refusal.value).startswith(str(tmp_path / 'config.json'))


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / 'file').touch()
    for workdir in (tmp_path / 'file', tmp_path / 'file' / 'run'):
        with pytest.raises(UserError, match=r'cannot write there \(.*\); expected a writable --workdir') as refusal:
            open_run(workdir, make_config())
        assert str(refusal.value).startswith(f'{workdir}: ')


def test_json_is_strict_and_undefined_numbers_are_null(tmp_path):
    nan, infinite = float('nan'), float('inf')
    write_json(
        tmp_path / 'a' / 'b.json', {'dice': nan, 'more': [1, -infinite, (nan, 'NaN')], 'deep': {'x': {'y': nan}}}
    )
    text = (tmp_path / 'a' / 'b.json').read_text()
    values = json.loads(text, parse_constant=pytest.fail)
    assert values == {'dice': None, 'more': [1, None, [None, 'NaN']], 'deep': {'x': {'y': None}}}
    assert text.endswith('}\n')


def test_numbers_keep_all_their_digits(tmp_path):
    write_json(tmp_path / 'x.json', {'a': 0.1 + 0.2, 'b': 10**18, 'c': True})
    assert json.loads((tmp_path / 'x.json').read_text()) == {'a': 0.1 + 0.2, 'b': 10**18, 'c': True}


def test_what_json_cannot_hold_leaves_the_old_file(tmp_path):
    write_json(tmp_path / 'x.json', {'a': 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / 'x.json', {'a': Path('p')})
    assert json.loads((tmp_path / 'x.json').read_text()) == {'a': 1}
    assert [path.name for path in tmp_path.iterdir()] == ['x.json']


def test_text_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / 'note.txt'
    write_atomically(path, 'a long first text')
    with open(path) as reader:
        write_atomically(path, 'second')
        assert reader.read() == 'a long first text'  # who reads the old one has it to the end
    assert path.read_text() == 'second'
    assert [path.name for path in tmp_path.iterdir()] == ['note.txt']
