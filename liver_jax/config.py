"""`ConfigDict` -> frozen dataclasses, checked at the door; each module then takes only its own part.

The values and their comments are in `configs/default.py`; here are the types and what is allowed.
Errors name the field (`optim.learning_rate`), what was found, what was expected.
"""

import dataclasses
import json
import typing
from collections.abc import Mapping
from typing import Any, Literal

from liver_jax.config_fields import absolute, build, check, flat, names_of
from liver_jax.config_training import LossConfig, OptimConfig, TrainConfig

Network = Literal['unet', 'resunet']
NETWORKS: tuple[Network, ...] = typing.get_args(Network)
WORKER_GB = 0.15  # that a process takes before it reads a volume
PATIENT_SOURCES = ('', 'signature', 'volume')  # of data.patients, beside a CSV
# The transforms in the order in which they are applied; AugmentConfig has the probability of each under its name.
AUGMENTATIONS = (
    'flip', 'flip_rows', 'rotate', 'scale', 'shift', 'elastic', 'noise', 'blur', 'brightness', 'factor', 'contrast',
    'coarsen', 'gamma_inverted', 'gamma',
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Raw volumes, the slice store and what is kept in it."""

    raw: str
    images: str
    labels: str
    store: str
    patients: str
    image_size: int
    window: tuple[float, float]
    slices: Literal['tumor', 'liver', 'all']
    masks: Literal['soft', 'nearest']
    target: Literal['tumor', 'liver', 'liver_or_tumor']
    workers: int
    memory_gb: float
    case_seconds: float
    placement: Literal['host', 'device', 'auto']

    def __post_init__(self) -> None:
        """Check the ranges of the fields."""
        check('data.labels', self.labels, bool(self.labels) == bool(self.images), 'a pattern, as data.images has one')
        least = WORKER_GB * self.workers
        check('data.memory_gb', self.memory_gb, self.memory_gb > least, f'more than {least:g}, for data.workers')
        check('data.case_seconds', self.case_seconds, self.case_seconds > 0, 'a positive number of seconds')
        check('data.image_size', self.image_size, 16 <= self.image_size <= 1024, 'a side of 16 to 1024 pixels')
        check('data.window', self.window, self.window[0] < self.window[1], '(low, high) in HU with low < high')
        check('data.workers', self.workers, 1 <= self.workers <= 256, '1 to 256 processes')
        check('data.store', self.store, bool(self.store), 'a folder')

    @property
    def worker_gb(self) -> float:
        """Gigabytes that each worker may hold of its volume."""
        return self.memory_gb / self.workers - WORKER_GB


@dataclasses.dataclass(frozen=True)
class SplitConfig:
    """Which slices train, validate and test."""

    by: Literal['patient', 'slice']
    fractions: tuple[float, float, float]
    folds: int
    fold: int
    stratify: bool
    seed: int

    def __post_init__(self) -> None:
        """Check that the fractions are positive and make a whole."""
        whole = min(self.fractions) > 0 and abs(sum(self.fractions) - 1) < 1e-6
        check('split.fractions', self.fractions, whole, 'three positive parts (train, val, test) that add up to 1')
        check('split.folds', self.folds, self.folds == 0 or 3 <= self.folds <= 1000, '0 (none) or 3 to 1000')
        check('split.fold', self.fold, 0 <= self.fold < max(self.folds, 1), f'0 to {max(self.folds - 1, 0)}')
        check('split.seed', self.seed, self.seed >= 0, 'zero or more')


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
    """Probability and range of each transform."""

    flip: float
    flip_rows: float
    rotate: float
    rotate_degrees: float
    scale: float
    scale_range: tuple[float, float]
    shift: float
    shift_fraction: float
    elastic: float
    elastic_grid: int
    elastic_fraction: float
    noise: float
    noise_std: float
    blur: float
    blur_range: tuple[float, float]
    brightness: float
    brightness_delta: float
    factor: float
    factor_range: tuple[float, float]
    factor_center: float
    contrast: float
    contrast_range: tuple[float, float]
    coarsen: float
    coarsen_range: tuple[float, float]
    gamma_inverted: float
    gamma: float
    gamma_range: tuple[float, float]
    gamma_keeps_stats: bool

    def __post_init__(self) -> None:
        """Check probabilities and ranges."""
        for name in AUGMENTATIONS:
            value = getattr(self, name)
            check(f'augment.{name}', value, 0 <= value <= 1, 'a probability in [0, 1]')
        for name in ('scale_range', 'factor_range', 'contrast_range', 'gamma_range'):
            low, high = getattr(self, name)
            check(f'augment.{name}', (low, high), 0 < low <= high, '(low, high) with 0 < low <= high')
        low, high = self.blur_range  # a kernel of three sigma to each side must fit into the smallest slice
        check('augment.blur_range', (low, high), 0 < low <= high <= 4, '(low, high) with 0 < low <= high <= 4 pixels')
        low, high = self.coarsen_range
        check('augment.coarsen_range', (low, high), 0 < low <= high <= 1, '(low, high) with 0 < low <= high <= 1')
        for name in ('rotate_degrees', 'shift_fraction', 'elastic_fraction', 'noise_std', 'brightness_delta'):
            value = getattr(self, name)
            check(f'augment.{name}', value, value >= 0, 'zero or more')
        check(
            'augment.factor_center', self.factor_center, 0 <= self.factor_center <= 1, 'a place in the window, 0 to 1'
        )
        check('augment.elastic_grid', self.elastic_grid, 2 <= self.elastic_grid <= 64, '2 to 64 control points')


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """One of the two networks and its size."""

    name: Network
    width: int
    depth: int
    norm: Literal['batch', 'group', 'instance']
    upsample: Literal['transpose', 'bilinear']
    dtype: Literal['float32', 'bfloat16']
    remat: bool
    prior: float

    def __post_init__(self) -> None:
        """Check the sizes."""
        check('model.width', self.width, 1 <= self.width <= 1024, '1 to 1024 channels')
        check('model.depth', self.depth, 1 <= self.depth <= 8, '1 to 8 levels')
        check('model.prior', self.prior, 0 < self.prior < 1, 'a probability between 0 and 1')
        groups = self.norm != 'group' or self.width % 8 == 0
        check('model.width', self.width, groups, "a multiple of 8, since model.norm is 'group'")


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """Scoring."""

    batch_size: int
    threshold: float

    def __post_init__(self) -> None:
        """Check the ranges."""
        check('eval.batch_size', self.batch_size, self.batch_size >= 1, 'one or more')
        check('eval.threshold', self.threshold, 0 < self.threshold < 1, 'a probability between 0 and 1')


@dataclasses.dataclass(frozen=True)
class CompareConfig:
    """How often `compare` trains the two networks."""

    seeds: int
    folds: int

    def __post_init__(self) -> None:
        """Check the numbers."""
        check('compare.seeds', self.seeds, 1 <= self.seeds <= 1000, '1 to 1000')
        check('compare.folds', self.folds, self.folds == 0 or 3 <= self.folds <= 1000, '0 (none) or 3 to 1000')


@dataclasses.dataclass(frozen=True)
class Config:
    """A whole experiment."""

    seed: int
    data: DataConfig
    split: SplitConfig
    augment: AugmentConfig
    model: ModelConfig
    loss: LossConfig
    optim: OptimConfig
    train: TrainConfig
    eval: EvalConfig
    compare: CompareConfig

    def __post_init__(self) -> None:
        """Check what several parts must agree on."""
        check('seed', self.seed, 0 <= self.seed < 2**31, 'zero to 2^31 - 1')
        check('seed', self.seed, self.seed + self.compare.seeds <= 2**31, 'room below 2^31 for compare.seeds')
        once = not (self.compare.folds and self.split.folds)
        check('compare.folds', self.compare.folds, once, '0, as split.folds chooses one fold of its own')
        factor, size = 2**self.model.depth, self.data.image_size
        check('data.image_size', size, size % factor == 0, f'a multiple of {factor} (2^model.depth)')
        # Normalising over a single pixel per channel would leave nothing of it.
        most = size.bit_length() - 2
        check('model.depth', self.model.depth, size >= 2 * factor, f'at most {most} for {size} pixels')


def config_from(values: Mapping[str, Any]) -> Config:
    """Build the checked `Config` from a nested dict (`ConfigDict.to_dict()`); paths become absolute.

    Raises:
        UserError: on an unknown, missing, ill-typed or out-of-range field.
    """
    config = build(Config, values, field_names())
    data = config.data
    paths = {name: absolute(f'data.{name}', getattr(data, name)) for name in ('raw', 'store')}
    if data.patients not in PATIENT_SOURCES:
        paths['patients'] = absolute('data.patients', data.patients)
    return dataclasses.replace(config, data=dataclasses.replace(data, **paths))


def config_to_json(config: Config) -> str:
    """The config as indented JSON; `config_from(json.loads(text))` gives it back."""
    return json.dumps(dataclasses.asdict(config), indent=2) + '\n'


def config_differences(saved: Mapping[str, Any], config: Config) -> list[str]:
    """The fields that differ, as `optim.learning_rate: 0.001 -> 0.0003` each; `saved` is what became of one in JSON."""
    before, after = flat(json.loads(json.dumps(saved))), flat(json.loads(config_to_json(config)))
    return [f'{name}: {before[name]!r} -> {after.get(name)!r}' for name in before if before[name] != after.get(name)]


def field_names() -> list[str]:
    """All fields and groups of fields, as `optim.learning_rate` and `optim`."""
    return [name for part, kind in typing.get_type_hints(Config).items() for name in names_of(part, kind)]
