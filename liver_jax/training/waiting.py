"""How long the devices waited for data, and which stage made them wait."""

import dataclasses

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

    They waited if the step under way was done by the time its next batch was there. When it was done is not known, so
    all the time spent on that batch counts: an upper bound.
    """

    def __init__(self, clock: Clock) -> None:
        """`clock` counts the seconds of the stream's stages."""
        self._clock = clock
        self._row, self._epoch = _Span(), _Span()
        self._last: float | None = None  # when the batch before was there
        self._skipped = _COMPILED_BY

    def restart(self) -> None:
        """Something else than training took place: the next batch is not counted."""
        self._last = None

    def add(self, asked: float, streamed: float, there: float, idle: bool) -> None:
        """A batch asked for, out of the stream and on the devices at these times; whether they are idle by then."""
        last, self._last = self._last, there
        if self._skipped:
            self._skipped -= 1
            self._last = None
            self._clock.take()
        elif last is not None:
            for span in (self._row, self._epoch):
                span.steps += 1
                span.passed += there - last
                span.streaming += idle * (streamed - asked)
                span.transferring += idle * (there - streamed)

    def percent(self) -> float:
        """Of the time since the last call."""
        row, self._row = self._row, _Span()
        return row.percent

    def warning(self) -> str | None:
        """What to tell at the end of an epoch, if the devices waited too much; then counts anew."""
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
