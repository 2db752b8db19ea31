"""`ConfigDict` -> frozen dataclasses, checked at the door; each module then takes only its own part.

The values and their comments are in `configs/default.py`; here are the types and what is allowed.
Errors name the field (`optim.learning_rate`), what was found, what was expected.
"""

import dataclasses
import difflib
import json
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from liver_jax.errors import UserError

Network = Literal['unet', 'resunet']
NETWORKS: tuple[Network, ...] = typing.get_args(Network)
_OVERLAP = ('dice', 'iou', 'precision', 'recall', 'f1')
MONITORS = ('loss', 'ssim', 'ssim_case', *(f'{s}_{over}' for over in ('image', 'case', 'pooled') for s in _OVERLAP))


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Raw volumes, the slice store and what is kept in it."""

    raw: str
    store: str
    patients: str
    image_size: int
    window: tuple[float, float]
    slices: Literal['tumor', 'liver', 'all']
    masks: Literal['soft', 'nearest']
    target: Literal['tumor', 'liver', 'liver_or_tumor']
    workers: int

    def __post_init__(self) -> None:
        """Check the ranges of the fields."""
        _check('data.image_size', self.image_size, 16 <= self.image_size <= 1024, 'a side of 16 to 1024 pixels')
        _check('data.window', self.window, self.window[0] < self.window[1], '(low, high) in HU with low < high')
        _check('data.workers', self.workers, 1 <= self.workers <= 256, '1 to 256 processes')
        _check('data.store', self.store, bool(self.store), 'a folder')


@dataclasses.dataclass(frozen=True)
class SplitConfig:
    """Which slices train, validate and test."""

    by: Literal['patient', 'slice']
    fractions: tuple[float, float, float]
    seed: int

    def __post_init__(self) -> None:
        """Check that the fractions are positive and make a whole."""
        whole = min(self.fractions) > 0 and abs(sum(self.fractions) - 1) < 1e-6
        _check('split.fractions', self.fractions, whole, 'three positive parts (train, val, test) that add up to 1')
        _check('split.seed', self.seed, self.seed >= 0, 'zero or more')


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
    """Probability and range of each transform."""

    flip: float
    rotate: float
    rotate_degrees: float
    scale: float
    scale_range: tuple[float, float]
    shift: float
    shift_fraction: float
    elastic: float
    elastic_grid: int
    elastic_fraction: float
    brightness: float
    brightness_delta: float
    contrast: float
    contrast_range: tuple[float, float]
    gamma: float
    gamma_range: tuple[float, float]
    noise: float
    noise_std: float

    def __post_init__(self) -> None:
        """Check probabilities and ranges."""
        for name in ('flip', 'rotate', 'scale', 'shift', 'elastic', 'brightness', 'contrast', 'gamma', 'noise'):
            value = getattr(self, name)
            _check(f'augment.{name}', value, 0 <= value <= 1, 'a probability in [0, 1]')
        for name in ('scale_range', 'contrast_range', 'gamma_range'):
            low, high = getattr(self, name)
            _check(f'augment.{name}', (low, high), 0 < low <= high, '(low, high) with 0 < low <= high')
        for name in ('rotate_degrees', 'shift_fraction', 'elastic_fraction', 'brightness_delta', 'noise_std'):
            value = getattr(self, name)
            _check(f'augment.{name}', value, value >= 0, 'zero or more')
        _check('augment.elastic_grid', self.elastic_grid, 2 <= self.elastic_grid <= 64, '2 to 64 control points')


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """One of the two networks and its size."""

    name: Network
    width: int
    depth: int
    norm: Literal['batch', 'group', 'instance']
    upsample: Literal['transpose', 'bilinear']
    dtype: Literal['float32', 'bfloat16']
    prior: float

    def __post_init__(self) -> None:
        """Check the sizes."""
        _check('model.width', self.width, 1 <= self.width <= 1024, '1 to 1024 channels')
        _check('model.depth', self.depth, 1 <= self.depth <= 8, '1 to 8 levels')
        _check('model.prior', self.prior, 0 < self.prior < 1, 'a probability between 0 and 1')
        groups = self.norm != 'group' or self.width % 8 == 0
        _check('model.width', self.width, groups, "a multiple of 8, since model.norm is 'group'")


@dataclasses.dataclass(frozen=True)
class OptimConfig:
    """Adam and its learning-rate schedule."""

    learning_rate: float
    warmup_epochs: float
    schedule: Literal['constant', 'cosine']
    b1: float
    b2: float

    def __post_init__(self) -> None:
        """Check the ranges."""
        _check('optim.learning_rate', self.learning_rate, self.learning_rate > 0, 'a positive number')
        _check('optim.warmup_epochs', self.warmup_epochs, self.warmup_epochs >= 0, 'zero or more')
        _check('optim.b1', self.b1, 0 <= self.b1 < 1, 'a number in [0, 1)')
        _check('optim.b2', self.b2, 0 <= self.b2 < 1, 'a number in [0, 1)')


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Length of training, early stopping, logging."""

    batch_size: int
    epochs: int
    log_every_steps: int
    monitor: str
    patience: int
    min_delta: float

    def __post_init__(self) -> None:
        """Check that counts are positive."""
        for name in ('batch_size', 'epochs', 'log_every_steps', 'patience'):
            value = getattr(self, name)
            _check(f'train.{name}', value, value >= 1, 'one or more')
        _check('train.monitor', self.monitor, self.monitor in MONITORS, f'one of {", ".join(MONITORS)}')
        _check('train.min_delta', self.min_delta, self.min_delta >= 0, 'zero or more')


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """Scoring."""

    batch_size: int
    threshold: float

    def __post_init__(self) -> None:
        """Check the ranges."""
        _check('eval.batch_size', self.batch_size, self.batch_size >= 1, 'one or more')
        _check('eval.threshold', self.threshold, 0 < self.threshold < 1, 'a probability between 0 and 1')


@dataclasses.dataclass(frozen=True)
class Config:
    """A whole experiment."""

    seed: int
    data: DataConfig
    split: SplitConfig
    augment: AugmentConfig
    model: ModelConfig
    optim: OptimConfig
    train: TrainConfig
    eval: EvalConfig

    def __post_init__(self) -> None:
        """Check what several parts must agree on."""
        _check('seed', self.seed, 0 <= self.seed < 2**31, 'zero to 2^31 - 1')
        factor, size = 2**self.model.depth, self.data.image_size
        _check('data.image_size', size, size % factor == 0, f'a multiple of {factor} (2^model.depth)')
        # Normalising over a single pixel per channel would leave nothing of it.
        most = size.bit_length() - 2
        _check('model.depth', self.model.depth, size >= 2 * factor, f'at most {most} for {size} pixels')


def config_from(values: Mapping[str, Any]) -> Config:
    """Build the checked `Config` from a nested dict (`ConfigDict.to_dict()`); paths become absolute.

    Raises:
        UserError: on an unknown, missing, ill-typed or out-of-range field.
    """
    config = _build(Config, values, '')
    absolute = {name: _absolute(f'data.{name}', getattr(config.data, name)) for name in ('raw', 'store', 'patients')}
    return dataclasses.replace(config, data=dataclasses.replace(config.data, **absolute))


def config_to_json(config: Config) -> str:
    """The config as indented JSON; `config_from(json.loads(text))` gives it back."""
    return json.dumps(dataclasses.asdict(config), indent=2) + '\n'


def config_differences(old: Config, new: Config) -> list[str]:
    """The fields that differ, as `optim.learning_rate: 0.001 -> 0.0003` each."""
    before, after = _flat(dataclasses.asdict(old)), _flat(dataclasses.asdict(new))
    return [f'{name}: {before[name]!r} -> {after[name]!r}' for name in before if before[name] != after[name]]


def field_names() -> list[str]:
    """All fields and groups of fields, as `optim.learning_rate` and `optim`."""
    return [name for part, kind in typing.get_type_hints(Config).items() for name in _names(part, kind)]


def unknown_name(what: str, name: str, known: typing.Iterable[str]) -> str:
    """The error line for a name that is not among the known ones, with the nearest of them."""
    known = list(known)
    group, _, last = name.rpartition('.')
    nearby = [each for each in known if each.rpartition('.')[0] == group]
    lasts = {each.rpartition('.')[2]: each for each in nearby or known}
    near = [each for each in known if last in _spellings(each)] or [
        lasts[each] for each in difflib.get_close_matches(last, lasts, 1)
    ]
    if not nearby:
        near = difflib.get_close_matches(name, known, 1) or near
    hint = f'did you mean {near[0]!r}?' if near else f'known: {", ".join(nearby or known)}'
    return f'{what} {name!r} is not known; {hint}'


def _spellings(name: str) -> tuple[str, str]:
    """What a field is called in other houses: the word without its group, its initials (`lr`)."""
    last = name.rpartition('.')[2]
    return last, ''.join(word[:1] for word in last.split('_'))


def _absolute(name: str, path: str) -> str:
    try:
        return str(Path(path).expanduser().absolute()) if path else ''
    except RuntimeError as error:  # ~nobody
        raise UserError(f'config field {name} is {path!r}; expected a path ({error})') from error


def _names(part: str, kind: Any) -> list[str]:
    inside = typing.get_type_hints(kind) if dataclasses.is_dataclass(kind) else {}
    return [part, *(f'{part}.{name}' for name in inside)]


def _build(cls: Any, values: Mapping[str, Any], prefix: str) -> Any:
    _check(prefix.rstrip('.') or 'config', values, isinstance(values, Mapping), 'a group of fields')
    types = typing.get_type_hints(cls)
    for name in values:
        if name not in types:
            raise UserError(unknown_name('config field', prefix + name, field_names()))
    missing = [prefix + name for name in types if name not in values]
    if missing:
        raise UserError(f'config: missing {", ".join(missing)}; start from configs/default.py, which has every field')
    return cls(**{name: _convert(kind, values[name], prefix + name) for name, kind in types.items()})


def _convert(kind: Any, value: Any, name: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return _build(kind, value, name + '.')
    if typing.get_origin(kind) is Literal:
        choices = typing.get_args(kind)
        _check(name, value, value in choices, f'one of {", ".join(map(repr, choices))}')
        return value
    if typing.get_origin(kind) is tuple:
        parts = typing.get_args(kind)
        fits = isinstance(value, (tuple, list)) and len(value) == len(parts)
        _check(name, value, fits, f'{len(parts)} numbers')
        return tuple(_convert(part, item, name) for part, item in zip(parts, value, strict=True))
    if kind is float:
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < float('inf')
        _check(name, value, number, 'a finite number')
        return float(value)
    fits = isinstance(value, kind) and not (kind is int and isinstance(value, bool))
    _check(name, value, fits, {int: 'a whole number', str: 'a text', bool: 'True or False'}[kind])
    return value


def _flat(values: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat.update(_flat(value, f'{prefix}{name}.') if isinstance(value, Mapping) else {prefix + name: value})
    return flat


def _check(name: str, found: Any, allowed: bool, expected: str) -> None:
    if not allowed:
        raise UserError(f'config field {name} is {found!r}; expected {expected}')
