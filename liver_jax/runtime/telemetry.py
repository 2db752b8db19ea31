"""Scalars and pictures to TensorBoard and to `metrics.jsonl`; the one importer of tensorboardX.

Both are written at once, without a thread or a buffer: a killed run has logged all that its checkpoint is the result
of. What a run logged beyond the checkpoint that it goes on from is taken out again.
"""

import json
import math
import struct
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from tensorboardX import summary
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import masked_crc32c

from liver_jax.files import Appended, write_atomically
from liver_jax.runtime.distributed import is_first

VALIDATION = 'val/'  # the scores of a validation are named so


class Telemetry:
    """Writes `WORKDIR/tensorboard` and `WORKDIR/metrics.jsonl`, in process 0. Use as a context manager."""

    def __init__(self, workdir: Path, step: int, validated: bool = True) -> None:
        """Open for a run that goes on after `step`, and after its validation if `validated`; drop what lies beyond."""
        self._rows: Appended | None = None
        if not is_first():
            return
        rows = workdir / 'metrics.jsonl'
        kept = [row for row in read_history(workdir) if _is_past(int(row['step']), row, step, validated)]
        write_atomically(rows, ''.join(json.dumps(row) + '\n' for row in kept))
        board = workdir / 'tensorboard'
        board.mkdir(exist_ok=True)
        number = 0
        for file in sorted(board.glob('events.out.tfevents.*.train')):
            _drop_events(file, step, validated)
            number = max(number, int(file.name.split('.')[3]))
        self._rows = Appended(rows)
        # TensorBoard reads the files in the order of their names: a number, for clocks can go backwards.
        self._events = Appended(board / f'events.out.tfevents.{number + 1:010}.train')
        self._add(file_version='brain.Event:2')
        # Tells a TensorBoard that is running already.
        self._add(session_log=SessionLog(status=SessionLog.START), step=step + 1)

    def __enter__(self) -> 'Telemetry':
        """Nothing to do: it is open."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the files."""
        if self._rows:
            self._events.close()
            self._rows.close()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Log the finite values at `step`."""
        if not self._rows:
            return
        finite = {name: float(value) for name, value in values.items() if math.isfinite(value)}
        self._rows.write(json.dumps({'step': step, **finite}).encode() + b'\n')
        for name, value in finite.items():
            self._add(summary=summary.scalar(name, value), step=step)

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        """Log a picture uint8 [H, W, 3] at `step`."""
        if self._rows:
            self._add(summary=summary.image(name, image, dataformats='HWC'), step=step)

    def _add(self, **fields: Any) -> None:
        data = Event(wall_time=time.time(), **fields).SerializeToString()
        self._events.write(_record(data))


class ScoreLog:
    """Scores of checkpoints, a row for each: `WORKDIR/evaluation/NAME.jsonl`, and in `WORKDIR/tensorboard/NAME`.

    TensorBoard follows one growing file per folder, so that this one, beside training, needs its own. A killed process
    may have written a row and not its event: the next one does.
    """

    def __init__(self, workdir: Path, name: str) -> None:
        """Open both; `rows` are those that are there. One process at a time may."""
        path, self.board = workdir / 'evaluation' / f'{name}.jsonl', workdir / 'tensorboard' / name
        self.rows = read_rows(path)
        write_atomically(path, ''.join(json.dumps(row) + '\n' for row in self.rows))
        self.board.mkdir(parents=True, exist_ok=True)
        files = sorted(self.board.glob('events.out.tfevents.*'))
        shown = {event.step for file in files for _, event in _events(file.read_bytes()) if event.summary.value}
        self._rows = Appended(path)
        self._events = Appended(self.board / f'events.out.tfevents.{len(files) + 1:010}.{name}')
        self._events.write(_record(Event(wall_time=time.time(), file_version='brain.Event:2').SerializeToString()))
        for row in self.rows:
            if row['step'] not in shown:
                self._show(row)

    def close(self) -> None:
        """Close the files."""
        self._events.close()
        self._rows.close()

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Log the finite values of one checkpoint."""
        row = {'step': step, **{name: float(value) for name, value in values.items() if math.isfinite(value)}}
        self.rows.append(row)
        self._rows.write(json.dumps(row).encode() + b'\n')
        self._show(row)

    def _show(self, row: Mapping[str, float]) -> None:
        """All values in one event: it is there as a whole or not at all."""
        values = [each for name, value in row.items() if name != 'step' for each in summary.scalar(name, value).value]
        event = Event(wall_time=time.time(), step=int(row['step']), summary=Summary(value=values))
        self._events.write(_record(event.SerializeToString()))


def read_history(workdir: Path) -> list[dict[str, float]]:
    """The rows of `metrics.jsonl`; a torn last line is left out."""
    return read_rows(workdir / 'metrics.jsonl')


def read_rows(path: Path) -> list[dict[str, float]]:
    """The rows of a file of JSON lines; a torn last one is left out, and no file has none."""
    rows = []
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        return []
    for line in lines:
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows


def _is_past(at: int, names: Any, step: int, validated: bool) -> bool:
    """Whether what was logged at step `at` under these names belongs to a run that is at `step`."""
    return at < step or (at == step and (validated or not any(name.startswith(VALIDATION) for name in names)))


def _drop_events(file: Path, step: int, validated: bool) -> None:
    """Take out of a file of TensorBoard what lies beyond a step, and a torn end."""
    content = file.read_bytes()
    kept = b''.join(
        record
        for record, event in _events(content)
        if _is_past(event.step, [value.tag for value in event.summary.value], step, validated)
    )
    if kept != content:
        write_atomically(file, kept)


def _record(data: bytes) -> bytes:
    """The format of TFRecord: length and data, with a checksum of each."""
    length = struct.pack('<Q', len(data))
    return b''.join([length, _checksum(length), data, _checksum(data)])


def _checksum(data: bytes) -> bytes:
    return struct.pack('<I', masked_crc32c(data))


def _events(content: bytes) -> Iterator[tuple[bytes, Event]]:
    """Whole records with the events in them, up to the first that is torn."""
    start = 0
    while start + 16 <= len(content):
        length = content[start : start + 8]
        end = start + 16 + int(struct.unpack('<Q', length)[0])
        if end > len(content) or _checksum(length) != content[start + 8 : start + 12]:
            return
        try:
            event = Event.FromString(content[start + 12 : end - 4])
        except DecodeError:
            return
        yield content[start:end], event
        start = end
