"""Scalars and pictures to TensorBoard and to `metrics.jsonl`; the one importer of tensorboardX."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tensorboardX import SummaryWriter

from liver_jax.files import write_atomically


class Telemetry:
    """Writes `WORKDIR/tensorboard` and `WORKDIR/metrics.jsonl`. Use as a context manager."""

    def __init__(self, workdir: Path, step: int) -> None:
        """Open for a run that goes on after `step`: what a broken-off run logged beyond it is dropped."""
        self._file = workdir / 'metrics.jsonl'
        kept = [row for row in read_history(workdir) if row['step'] <= step]
        write_atomically(self._file, ''.join(json.dumps(row) + '\n' for row in kept))
        self._lines = open(self._file, 'a', buffering=1)  # noqa: SIM115 (closed on leaving)
        # The name of its file is host and second: the suffix keeps a quick restart from writing over the file before.
        self._board = SummaryWriter(str(workdir / 'tensorboard'), purge_step=step + 1, filename_suffix=f'.{step}')

    def __enter__(self) -> 'Telemetry':
        """Nothing to do: it is open."""
        return self

    def __exit__(self, *_: object) -> None:
        """Flush and close."""
        self._board.close()
        self._lines.close()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Log the finite values at `step`."""
        finite = {name: float(value) for name, value in values.items() if math.isfinite(value)}
        self._lines.write(json.dumps({'step': step, **finite}) + '\n')
        for name, value in finite.items():
            self._board.add_scalar(name, value, step)

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        """Log a picture uint8 [H, W, 3] at `step`."""
        self._board.add_image(name, image, step, dataformats='HWC')


def read_history(workdir: Path) -> list[dict[str, float]]:
    """The rows of `metrics.jsonl`; a torn last line is left out."""
    rows = []
    try:
        lines = (workdir / 'metrics.jsonl').read_text().splitlines()
    except FileNotFoundError:
        return []
    for line in lines:
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows
