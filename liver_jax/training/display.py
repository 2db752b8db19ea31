"""What a run shows while it trains: a bar in a terminal, and rows for TensorBoard and metrics.jsonl."""

import datetime
import os
import sys

import jax
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from liver_jax.config import Config
from liver_jax.models import DISPLAY_NAMES
from liver_jax.runtime.telemetry import Telemetry
from liver_jax.training.meter import Meter
from liver_jax.training.peaks import slices_at_peak

_BAR, _USUAL = 10, 80  # columns


class Display:
    """Bar and rows of one run. Use as a context manager: within it, lines of the log appear above the bar."""

    def __init__(
        self, config: Config, telemetry: Telemetry, step: int, epoch_steps: int, mesh: jax.sharding.Mesh
    ) -> None:
        """Show a run that goes on after `step`, with a validation every `epoch_steps` steps."""
        self._batch_size, self._epoch_steps, self._mesh = config.train.batch_size, epoch_steps, mesh
        self._telemetry, self._total, self._validation = telemetry, config.train.epochs * epoch_steps, 0.0
        self._at_peak = slices_at_peak(config.model, config.data.image_size, mesh.devices.flat[0].device_kind)
        self._name, first = DISPLAY_NAMES[config.model.name], jax.process_index() == 0
        self._bar = tqdm(
            total=self._total, initial=step, desc=self._name, ncols=_columns(),
            bar_format=f'{{desc}} {{percentage:3.0f}}%|{{bar:{_BAR}}}| {{n_fmt}}/{{total_fmt}}{{postfix}}',
            disable=None if first else True,
        )  # fmt: skip
        self._redirected = logging_redirect_tqdm()

    def __enter__(self) -> 'Display':
        """Let the log pass above the bar."""
        self._redirected.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        """Leave the bar as it is."""
        self._bar.close()
        self._redirected.__exit__(*error)

    def advance(self) -> None:
        """One step more."""
        self._bar.update()

    def validated(self, seconds: float) -> None:
        """A validation took so long; the next ones are taken to do the same."""
        self._validation = seconds

    def row(self, step: int, meter: Meter, data_wait_percent: float) -> None:
        """Log the row that is due at `step`: numbers of the run below train/, those of the machine below pace/."""
        numbers = meter.row()
        pace = self._pace(step, meter.seconds) | {'data_wait_percent': data_wait_percent}
        self._telemetry.scalars(
            step,
            {f'train/{name}': value for name, value in numbers.items()}
            | {f'pace/{name}': value for name, value in pace.items()},
        )
        columns = _columns()
        self._bar.ncols = columns
        self._bar.set_postfix_str(_that_fits(_words(numbers, pace), columns - self._head()), refresh=False)

    def _pace(self, step: int, seconds: float) -> dict[str, float]:
        """Speed, what is left in seconds (if no early stopping comes), memory; what is not known is left out."""
        speed = self._batch_size / self._mesh.size / max(seconds, 1e-9)
        left = self._total - step
        validations = left // self._epoch_steps + 1  # the row at the end of an epoch comes before its validation
        pace = {
            'slices_per_second_per_device': speed,
            'seconds_to_evaluation': seconds * (left % self._epoch_steps),
            'seconds_to_end': seconds * left + self._validation * validations,
        }
        memory = [stats['peak_bytes_in_use'] for each in self._mesh.local_devices if (stats := each.memory_stats())]
        if memory:
            pace['peak_memory_gb'] = max(memory) / 1e9
        if self._at_peak:
            pace['model_flop_utilisation_percent'] = 100 * speed / self._at_peak
        return pace

    def _head(self) -> int:
        """Columns that name, bar and steps take."""
        return len(f'{self._name} 100%|| {self._total}/{self._total}') + _BAR


def _words(numbers: dict[str, float], pace: dict[str, float]) -> list[str]:
    """The parts of the line beside the bar, what matters most first."""
    formats = {
        'loss': 'loss {:.4f}', 'seconds_to_end': 'end in {}', 'seconds_to_evaluation': 'eval in {}',
        'slices_per_second_per_device': '{:.0f} slices/s', 'data_wait_percent': 'data wait {:.0f} %',
        'learning_rate': 'rate {:.1e}', 'gradient_norm': 'gradient {:.2g}', 'update_norm': 'update {:.2g}',
        'peak_memory_gb': '{:.1f} GB', 'model_flop_utilisation_percent': 'MFU {:.0f} %',
    }  # fmt: skip
    values: dict[str, float | str] = {**numbers, **pace}
    for name in ('seconds_to_evaluation', 'seconds_to_end'):
        values[name] = str(datetime.timedelta(seconds=round(pace[name]))).removeprefix('0:')
    return [words.format(values[name]) for name, words in formats.items() if name in values]


def _that_fits(words: list[str], columns: int) -> str:
    """As many of the words, from the first on, as there is room for."""
    while words and len(', ' + ', '.join(words)) > columns:
        words = words[:-1]
    return ', '.join(words)


def _columns() -> int:
    """Width of the terminal that the bar is in."""
    if os.environ.get('COLUMNS', '').isdecimal():
        return int(os.environ['COLUMNS'])
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or _USUAL  # some terminals say 0
    except (OSError, ValueError):  # no terminal
        return _USUAL
