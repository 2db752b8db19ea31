"""Ctrl-C and SIGTERM ask for a stop; the work goes on to a safe point, saves, and raises `Interrupted`."""

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from liver_jax.runtime.distributed import agreed, place

log = logging.getLogger(__name__)
RESUME_CODE = 75  # EX_TEMPFAIL of sysexits.h: the same command goes on where it stopped


class Interrupted(Exception):  # noqa: N818 (asked for, not an error)
    """Stopped on request, with everything saved."""


class StopRequest:
    """Whether a stop was asked for."""

    requested = False

    def reached(self) -> bool:
        """Whether to save and stop here; asked at safe points, the same ones in all processes."""
        return bool(agreed(self.requested)) if place()[1] > 1 else self.requested


@contextmanager
def watch_signals() -> Iterator[StopRequest]:
    """Within the block the first SIGINT or SIGTERM sets `requested`, a second one stops at once."""
    stop = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, _: FrameType | None) -> None:
        stop.requested = True
        for each in before:
            signal.signal(each, signal.SIG_DFL)
        log.warning('%s: saving and stopping; again to stop at once', signal.Signals(number).name)

    for number in before:
        signal.signal(number, ask)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
