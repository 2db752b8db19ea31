"""How long the devices waited for data, and which stage made them wait."""

import dataclasses
import queue
import threading
import time
from typing import Any

import jax

from liver_jax.data.clock import Clock

TOO_MUCH = 5.0  # percent
_FEWEST = 20  # steps a warning is based on
_COMPILED_BY = 2  # steps at the start that are not counted: they compile
_REMEDY = {
    'order': 'a larger train.batch_size helps',
    'draw': 'more CPU cores, fewer transforms in augment, or a larger train.batch_size help',
    'gather': "data.placement='device', more memory for the store's pages, or a faster disk help",
    'transfer': "a larger train.batch_size or, where it is not set yet, data.placement='device' makes it less",
}


@dataclasses.dataclass(frozen=True)
class _Times:
    """When a batch was asked for, out of the stream, and sent to the devices; of a step, nothing."""

    asked: float = 0.0
    streamed: float | None = None
    sent: float = 0.0
    restart: bool = False


@dataclasses.dataclass
class _Span:
    """Seconds that passed, and those waited for the host's stream and for the transfer."""

    steps: int = 0
    passed: float = 0.0
    streaming: float = 0.0
    transferring: float = 0.0

    @property
    def percent(self) -> float:
        return 100 * (self.streaming + self.transferring) / self.passed if self.passed else 0.0


class Waiting:
    """The part of the time that the devices waited for a batch.

    A thread sees when each batch was on the devices and when each step was done. From the end of a step (or from when
    its next batch was asked for, if that was later) to the arrival of that batch the devices waited.
    """

    def __init__(self, clock: Clock) -> None:
        """`clock` counts the seconds of the stream's stages."""
        self._clock = clock
        self._row, self._epoch = _Span(), _Span()
        self._lock = threading.Lock()
        self._seen: queue.SimpleQueue[tuple[Any, _Times] | None] = queue.SimpleQueue()
        self._last: float | None = None  # when the batch before was there
        self._skipped = _COMPILED_BY
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def restart(self) -> None:
        """Something else than training took place: the next batch is not counted."""
        self._seen.put((None, _Times(restart=True)))

    def step(self, under_way: Any) -> None:
        """What the devices are computing while the next batch is asked for."""
        self._seen.put((under_way, _Times()))

    def batch(self, arrays: Any, asked: float, streamed: float) -> None:
        """The next batch, on its way to the devices; it was asked for and out of the stream at these times."""
        self._seen.put((arrays, _Times(asked, streamed, time.perf_counter())))

    def close(self) -> None:
        """End the thread."""
        self._seen.put(None)
        self._thread.join()

    def _watch(self) -> None:
        done = 0.0  # when the step before was
        while (seen := self._seen.get()) is not None:
            arrays, times = seen
            # It was there before the step ended, and this thread late to see it:
            in_time = times.streamed is not None and times.sent <= done and all(each.is_ready() for each in arrays)
            try:
                jax.block_until_ready(arrays)
            except Exception:  # the loop meets it too, and tells
                continue
            now = time.perf_counter()
            done = now if in_time else done
            if times.restart:
                self._last = None
            elif times.streamed is None:
                done = now
            else:
                self.count(times.asked, times.streamed, now, done)

    def count(self, asked: float, streamed: float, there: float, done: float) -> None:
        """A batch that came at these times; the step before it was done at `done`."""
        last, self._last = self._last, there
        if self._skipped:
            self._skipped -= 1
            self._last = None
            self._clock.take()
        elif last is not None:
            since = max(asked, done)
            with self._lock:
                for span in (self._row, self._epoch):
                    span.steps += 1
                    span.passed += there - last
                    span.streaming += max(0.0, streamed - since)
                    span.transferring += max(0.0, there - max(since, streamed))

    def percent(self) -> float:
        """Of the time since the last call."""
        with self._lock:
            row, self._row = self._row, _Span()
        return row.percent

    def warning(self) -> str | None:
        """What to tell at the end of an epoch, if the devices waited too much; then counts anew."""
        with self._lock:
            span = self._epoch
            if span.steps < _FEWEST:
                return None
            self._epoch, seconds = _Span(), self._clock.take()
        if span.percent <= TOO_MUCH:
            return None
        slowest = max(seconds, key=seconds.__getitem__, default='order')
        stage = 'transfer' if span.transferring >= span.streaming else slowest
        share = f'{span.percent:.0f} % of the time'
        return f'the devices waited for data {share}, most of it for {stage!r}; {_REMEDY[stage]}'
