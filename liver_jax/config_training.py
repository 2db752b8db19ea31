"""The parts of the config that say how a network is trained: loss, optimizer, length. See `config`."""

import dataclasses
from typing import Literal

from liver_jax.config_fields import check

_OVERLAP = ('dice', 'iou', 'precision', 'recall', 'f1')
MONITORS = ('loss', 'ssim', 'ssim_case', *(f'{s}_{over}' for over in ('image', 'case', 'pooled') for s in _OVERLAP))


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """What is minimised, and the numbers of those losses that have some."""

    name: Literal['bce', 'dice', 'dice_bce', 'focal', 'tversky']
    focal_alpha: float
    focal_gamma: float
    tversky_alpha: float
    tversky_beta: float

    def __post_init__(self) -> None:
        """Check the ranges."""
        check('loss.focal_alpha', self.focal_alpha, 0 < self.focal_alpha < 1, 'a weight between 0 and 1')
        check('loss.focal_gamma', self.focal_gamma, self.focal_gamma >= 0, 'zero or more')
        for name in ('tversky_alpha', 'tversky_beta'):
            value = getattr(self, name)
            check(f'loss.{name}', value, value > 0, 'a positive weight')


@dataclasses.dataclass(frozen=True)
class OptimConfig:
    """The optimizer, its learning-rate schedule, clipping, and the average of the weights."""

    name: Literal['adam', 'adamw', 'sgd']
    learning_rate: float
    warmup_epochs: float
    schedule: Literal['constant', 'cosine', 'polynomial']
    power: float
    b1: float
    b2: float
    momentum: float
    weight_decay: float
    clip_norm: float
    ema_decay: float

    def __post_init__(self) -> None:
        """Check the ranges, and that weight decay and optimizer go together."""
        for name in ('learning_rate', 'power'):
            value = getattr(self, name)
            check(f'optim.{name}', value, value > 0, 'a positive number')
        for name in ('warmup_epochs', 'weight_decay', 'clip_norm'):
            value = getattr(self, name)
            check(f'optim.{name}', value, value >= 0, 'zero or more')
        for name in ('b1', 'b2', 'momentum', 'ema_decay'):
            value = getattr(self, name)
            check(f'optim.{name}', value, 0 <= value < 1, 'a number in [0, 1)')
        decay, name = self.weight_decay, self.name
        check('optim.weight_decay', decay, not decay or name != 'adam', "zero, or optim.name 'adamw'")
        check('optim.weight_decay', decay, decay > 0 or name != 'adamw', "a positive number, as optim.name is 'adamw'")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Length of training, early stopping, logging, saving."""

    batch_size: int
    accumulate: int
    epochs: int
    log_every_steps: int
    save_every_steps: int
    max_hours: float
    monitor: str
    patience: int
    min_delta: float
    deterministic: bool

    def __post_init__(self) -> None:
        """Check that counts are positive."""
        for name in ('batch_size', 'accumulate', 'epochs', 'log_every_steps', 'patience'):
            value = getattr(self, name)
            check(f'train.{name}', value, value >= 1, 'one or more')
        for name in ('save_every_steps', 'max_hours'):
            value = getattr(self, name)
            check(f'train.{name}', value, value >= 0, 'zero (none) or more')
        whole = self.batch_size % self.accumulate == 0
        check('train.accumulate', self.accumulate, whole, f'a divisor of train.batch_size, {self.batch_size}')
        check('train.monitor', self.monitor, self.monitor in MONITORS, f'one of {", ".join(MONITORS)}')
        check('train.min_delta', self.min_delta, self.min_delta >= 0, 'zero or more')
