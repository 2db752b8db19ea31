"""Real runs for the rows that need one: so many steps of the real loop, real commands in processes of their own."""

import dataclasses
import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from liver_jax.config import Config
from liver_jax.runtime.interrupt import Interrupted, StopRequest, Wish
from liver_jax.training.loop import train

_CONFIG_FILE = """import json

from ml_collections import ConfigDict


def get_config():
    return ConfigDict(json.loads({text!r})).lock()
"""


def train_for(config: Config, workdir: Path, steps: int) -> None:
    """The training loop in `workdir`, interrupted after so many steps as a signal would; the last one is saved."""
    with quiet(), suppress(Interrupted):
        train(config, workdir, _After(steps))


def write_config(config: Config, file: Path) -> None:
    """The config as a file for --config."""
    file.write_text(_CONFIG_FILE.format(text=json.dumps(dataclasses.asdict(config))))


def command(name: str, *flags: str) -> list[str]:
    """A command of ours, as a process of its own runs it."""
    return [sys.executable, '-m', 'liver_jax', *name.split(), *flags]


def environment(**more: str) -> dict[str, str]:
    """Ours for such a process: on a GPU it takes memory as it needs it, for this one holds its part."""
    return {**os.environ, 'XLA_PYTHON_CLIENT_PREALLOCATE': 'false', **more}


@contextmanager
def quiet() -> Iterator[None]:
    """Within the block the log of this project has only warnings."""
    ours = logging.getLogger('liver_jax')
    before = ours.level
    ours.setLevel(logging.WARNING)
    try:
        yield
    finally:
        ours.setLevel(before)


class _After(StopRequest):
    """Asks for a stop once it was looked at so many times: before every step, and once more."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self._left = steps

    def reached(self) -> Wish:
        self.requested = self._left <= 0
        self._left -= 1
        return super().reached()
