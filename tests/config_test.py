"""Configs: every field known and explained, every mistake named."""

import ast
import copy
import dataclasses
import importlib
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from configs import augmentation, default
from liver_jax.config import Config, config_differences, config_from, config_to_json, field_names
from liver_jax.config_fields import unknown_name
from liver_jax.errors import UserError

CONFIGS = sorted({path.stem for path in Path(default.__file__).parent.glob('*.py')} - {'augmentation'})
PRESETS = ['light', 'nnunet']


def values(**fields: Any) -> dict[str, Any]:
    """The default config as a dict; overrides as `optim__learning_rate=1`."""
    values = copy.deepcopy(default.get_config().to_dict())
    for name, value in fields.items():
        group, _, field = name.rpartition('__')
        (values[group] if group else values)[field] = value
    return values


def assignments(source: str) -> Iterator[tuple[str, str]]:
    """Every `name.field = value` of a config file, as the field and the text of its lines."""
    lines, groups = source.splitlines(), {'config': ''}
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Attribute):
            continue
        target = node.targets[0]
        # A group is a variable of its name, made here (config.data = data = ConfigDict()) or in its own function.
        field = f'{groups.get(target.value.id, target.value.id)}.{target.attr}'.lstrip('.')
        if isinstance(node.value, ast.Call) and len(node.targets) == 1:
            continue
        if len(node.targets) == 2:
            groups[node.targets[1].id] = field
        else:
            yield field, '\n'.join(lines[node.lineno - 1 : node.end_lineno])


@pytest.mark.parametrize('preset', PRESETS)
def test_every_field_of_the_default_is_known_and_explained_beside_it(preset):
    fields = dict(assignments(Path(default.__file__).read_text()))
    fields |= assignments(inspect.getsource(getattr(augmentation, preset)))
    groups = {field.name for field in dataclasses.fields(Config)} - {'seed'}
    assert set(fields) == set(field_names()) - groups
    assert [field for field, text in fields.items() if '  # ' not in text] == []


@pytest.mark.parametrize('name', CONFIGS)
def test_every_config_is_valid_locked_and_gives_its_command(name):
    module = importlib.import_module(f'configs.{name}')
    config = module.get_config()
    assert config.is_locked
    config_from(config.to_dict())
    assert f'--config=configs/{name}.py' in module.__doc__


@pytest.mark.parametrize('name', CONFIGS)
@pytest.mark.parametrize('preset', PRESETS)
def test_every_config_takes_a_named_augmentation(name, preset):
    module = importlib.import_module(f'configs.{name}')
    config = module.get_config(preset)
    assert config.augment.to_dict() == getattr(augmentation, preset)().to_dict()
    config_from(config.to_dict())
    # Nothing else depends on it.
    assert {key: value for key, value in config.to_dict().items() if key != 'augment'} == {
        key: value for key, value in module.get_config().to_dict().items() if key != 'augment'
    }
    assert module.get_config().augment.to_dict() == augmentation.light().to_dict()


def test_an_unknown_augmentation_is_told_the_known_ones():
    with pytest.raises(UserError, match=r"augmentation 'nnunt' .* is not known; known: light, nnunet"):
        default.get_config('nnunt')


def test_configs_differ_from_the_default_only_where_they_say():
    base = config_from(values())
    quickstart = config_from(importlib.import_module('configs.quickstart').get_config().to_dict())
    changed = {line.partition(':')[0] for line in config_differences(dataclasses.asdict(base), quickstart)}
    assert {'data.raw', 'data.store', 'data.image_size', 'model.width', 'model.depth'} <= changed
    assert not {name for name in changed if name.startswith(('augment', 'split', 'eval'))}
    assert config_from(values()) == base  # loading one config leaves the others as they are


@pytest.mark.parametrize(
    ('written', 'meant'),
    [
        ('optim.learning_rat', 'optim.learning_rate'),
        ('optim.lr', 'optim.learning_rate'),
        ('data.batch_size', 'train.batch_size'),
        ('trian.epochs', 'train.epochs'),
        ('modle.width', 'model.width'),
        ('modle', 'model'),
        ('sed', 'seed'),
        ('data.windows', 'data.window'),
        ('data.width', 'model.width'),
    ],
)
def test_an_unknown_field_is_named_with_the_nearest_one(written, meant):
    assert unknown_name('config field', written, field_names()).endswith(f'is not known; did you mean {meant!r}?')


def test_an_unknown_field_or_group_in_a_config_is_refused():
    with pytest.raises(
        UserError, match=r"config field 'optim\.lr' is not known; did you mean 'optim\.learning_rate'\?"
    ):
        config_from(values(optim__lr=1))
    with pytest.raises(UserError, match=r"config field 'modle' is not known; did you mean 'model'\?"):
        config_from(values(modle={'width': 3}))


def test_a_field_like_no_other_is_told_the_fields_of_its_group():
    line = unknown_name('config field', 'split.frobnicate', field_names())
    assert line.startswith(
        "config field 'split.frobnicate' is not known; known: split.by, split.fractions, split.folds"
    )


def test_missing_fields_are_named():
    incomplete = values()
    del incomplete['optim']['b1'], incomplete['optim']['b2']
    with pytest.raises(UserError, match=r'config: missing optim\.b1, optim\.b2; start from configs/default\.py'):
        config_from(incomplete)


@pytest.mark.parametrize(
    ('field', 'value', 'expected'),
    [
        # types
        ('seed', 1.0, 'a whole number'),
        ('seed', True, 'a whole number'),
        ('data__image_size', '128', 'a whole number'),
        ('data__raw', 3, 'a text'),
        ('data__window', 5, '2 numbers'),
        ('data__window', (1.0, 2.0, 3.0), '2 numbers'),
        ('optim__learning_rate', '1e-3', 'a finite number'),
        ('optim__learning_rate', float('nan'), 'a finite number'),
        ('optim__warmup_epochs', float('inf'), 'a finite number'),
        ('optim__b1', True, 'a finite number'),
        ('optim', 3, 'a group of fields'),
        # choices
        ('data__slices', 'tumour', "one of 'tumor', 'liver', 'all'"),
        ('data__masks', '', "one of 'soft', 'nearest'"),
        ('data__target', None, "one of 'tumor', 'liver', 'liver_or_tumor'"),
        ('split__by', 'case', "one of 'patient', 'slice'"),
        ('model__name', 'vnet', "one of 'unet', 'resunet'"),
        ('optim__schedule', 'step', "one of 'constant', 'cosine', 'polynomial'"),
        ('optim__name', 'lion', "one of 'adam', 'adamw', 'sgd'"),
        ('loss__name', 'ce', "one of 'bce', 'dice', 'dice_bce', 'focal', 'tversky'"),
        # ranges
        ('seed', -1, 'zero to 2^31 - 1'),
        ('seed', 2**31, 'zero to 2^31 - 1'),
        ('data__image_size', 15, 'a side of 16 to 1024 pixels'),
        ('data__image_size', 1040, 'a side of 16 to 1024 pixels'),
        ('data__image_size', 72, 'a multiple of 16 (2^model.depth)'),
        ('data__window', (240.0, -160.0), '(low, high) in HU with low < high'),
        ('data__window', (40.0, 40.0), '(low, high) in HU with low < high'),
        ('data__workers', 0, '1 to 256 processes'),
        ('data__store', '', 'a folder'),
        ('split__fractions', (0.7, 0.15, 0.1), 'three positive parts (train, val, test) that add up to 1'),
        ('split__fractions', (1.0, 0.0, 0.0), 'three positive parts (train, val, test) that add up to 1'),
        ('split__seed', -1, 'zero or more'),
        ('augment__flip', 1.5, 'a probability in [0, 1]'),
        ('augment__noise_std', -0.1, 'zero or more'),
        ('augment__scale_range', (0.0, 1.0), '(low, high) with 0 < low <= high'),
        ('augment__gamma_range', (1.2, 0.8), '(low, high) with 0 < low <= high'),
        ('augment__elastic_grid', 1, '2 to 64 control points'),
        ('augment__flip_rows', -0.1, 'a probability in [0, 1]'),
        ('augment__blur', 1.5, 'a probability in [0, 1]'),
        ('augment__factor', 2.0, 'a probability in [0, 1]'),
        ('augment__coarsen', 1.01, 'a probability in [0, 1]'),
        ('augment__gamma_inverted', -1.0, 'a probability in [0, 1]'),
        ('augment__blur_range', (0.0, 1.0), '(low, high) with 0 < low <= high <= 4 pixels'),
        ('augment__blur_range', (1.0, 5.0), '(low, high) with 0 < low <= high <= 4 pixels'),
        ('augment__coarsen_range', (0.5, 1.5), '(low, high) with 0 < low <= high <= 1'),
        ('augment__coarsen_range', (0.0, 1.0), '(low, high) with 0 < low <= high <= 1'),
        ('augment__factor_range', (1.2, 0.8), '(low, high) with 0 < low <= high'),
        ('augment__factor_center', 65.0, 'a place in the window, 0 to 1'),
        ('augment__gamma_keeps_stats', 1, 'True or False'),
        ('model__width', 0, '1 to 1024 channels'),
        ('model__depth', 9, '1 to 8 levels'),
        ('model__prior', 0.0, 'a probability between 0 and 1'),
        ('optim__learning_rate', 0.0, 'a positive number'),
        ('loss__focal_alpha', 1.0, 'a weight between 0 and 1'),
        ('loss__focal_gamma', -0.5, 'zero or more'),
        ('loss__tversky_beta', 0.0, 'a positive weight'),
        ('optim__b2', 1.0, 'a number in [0, 1)'),
        ('optim__momentum', 1.0, 'a number in [0, 1)'),
        ('optim__ema_decay', 1.0, 'a number in [0, 1)'),
        ('optim__power', 0.0, 'a positive number'),
        ('optim__clip_norm', -1.0, 'zero or more'),
        ('optim__weight_decay', 0.01, "zero, or optim.name 'adamw'"),
        ('train__accumulate', 0, 'one or more'),
        ('train__accumulate', 3, 'a divisor of train.batch_size, 16'),
        ('train__deterministic', 'yes', 'True or False'),
        ('train__epochs', 0, 'one or more'),
        ('train__min_delta', -1e-9, 'zero or more'),
        ('eval__batch_size', 0, 'one or more'),
        ('eval__threshold', 1.0, 'a probability between 0 and 1'),
    ],
)
def test_a_bad_value_is_refused_with_field_found_and_expected(field, value, expected):
    with pytest.raises(UserError) as refusal:
        config_from(values(**{field: value}))
    assert str(refusal.value) == f'config field {field.replace("__", ".")} is {value!r}; expected {expected}'


def test_group_norm_asks_for_whole_groups():
    with pytest.raises(UserError, match=r"model\.width is 12; expected a multiple of 8, since model\.norm is 'group'"):
        config_from(values(model__norm='group', model__width=12))
    assert config_from(values(model__norm='batch', model__width=12)).model.width == 12


def test_adamw_without_decay_would_be_adam():
    with pytest.raises(UserError, match=r"weight_decay is 0\.0; expected a positive number, as optim\.name is 'adamw'"):
        config_from(values(optim__name='adamw'))
    assert config_from(values(optim__name='adamw', optim__weight_decay=0.01)).optim.weight_decay == 0.01


def test_whole_numbers_do_for_real_ones_and_lists_for_tuples():
    config = config_from(values(optim__warmup_epochs=2, data__window=[-100, 300]))
    assert repr(config.optim.warmup_epochs) == '2.0'
    assert repr(config.data.window) == '(-100.0, 300.0)'


def test_paths_become_absolute_and_empty_ones_stay_empty(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('HOME', '/home/ann')
    config = config_from(values(data__raw='~/lits', data__store='stores/x'))
    assert (config.data.raw, config.data.store, config.data.patients) == (
        '/home/ann/lits',
        str(tmp_path / 'stores/x'),
        '',
    )


def test_the_home_of_nobody_is_refused():
    with pytest.raises(UserError, match=r"config field data\.raw is '~no such user/x'; expected a path"):
        config_from(values(data__raw='~no such user/x'))


def test_json_gives_the_same_config_back():
    config = config_from(values(data__window=(-100.5, 300.0), optim__learning_rate=1e-7, data__raw='/ä "quoted"'))
    assert config_from(json.loads(config_to_json(config), parse_constant=pytest.fail)) == config


def test_differences_are_listed_with_both_values():
    old, new = config_from(values()), config_from(values(seed=3, optim__learning_rate=3e-4))
    assert config_differences(dataclasses.asdict(old), new) == ['seed: 0 -> 3', 'optim.learning_rate: 0.001 -> 0.0003']
    assert config_differences(dataclasses.asdict(old), old) == []


def test_a_config_cannot_be_changed():
    config = config_from(values())
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.model.width = 3
