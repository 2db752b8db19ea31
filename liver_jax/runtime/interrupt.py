"""What ends a run early: Ctrl-C, SIGTERM, a stop file, a time budget.

A signal ends the process at once while nothing would be lost by it, also in the midst of a compilation. Work that has
something to save calls `hold`: then a signal only asks, and is obeyed at the next safe point.
"""

import enum
import logging
import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from liver_jax.runtime.distributed import agreed, is_first, place

log = logging.getLogger(__name__)
RESUME_CODE = 75  # EX_TEMPFAIL of sysexits.h: the same command goes on where it stopped
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_LOOK_SECONDS = 1.0  # between looks for the stop file: a network disk takes a while to answer


class Interrupted(Exception):  # noqa: N818 (asked for, not an error)
    """Stopped by a signal, with everything saved."""


class Ended(Exception):  # noqa: N818 (asked for, not an error)
    """Stopped by the stop file or the time budget, with everything evaluated and saved."""


class Wish(enum.IntEnum):
    """What is asked for; of several the greatest counts."""

    GO_ON = 0
    END = 1  # evaluate, save, and be done for now
    INTERRUPT = 2  # save, and be gone


class StopRequest:
    """What is asked of a run."""

    def __init__(self, file: Path | None = None, hours: float = 0.0) -> None:
        """`file` ends the run when somebody makes it; so do so many `hours` from now (0: as long as it takes)."""
        self.requested = False  # by a signal
        self.reason = ''  # of an end
        self._file, self._hours = file, hours
        self._deadline = time.monotonic() + hours * 3600 if hours else math.inf
        self._next_look = -math.inf
        self._holding = False
        self._agreed = Wish.GO_ON  # of several processes
        self._lock = threading.Lock()

    def reached(self) -> Wish:
        """What to do here; asked at safe points, the same ones in all processes. Once asked for, it stays so."""
        if place()[1] == 1:
            return self._own_wish()
        if not self._agreed:
            self._agreed = Wish(agreed(self._own_wish()))
        return self._agreed

    def _own_wish(self) -> Wish:
        if self.requested or not is_first():
            return Wish.INTERRUPT if self.requested else Wish.GO_ON
        now = time.monotonic()
        if self._file and not self.reason and now >= self._next_look:
            self._next_look = now + _LOOK_SECONDS
            if self._file.exists():
                self.reason = f'{self._file} was there and is removed'
        if now >= self._deadline and not self.reason:
            self.reason = f'train.max_hours={self._hours:g} are over'
        return Wish.END if self.reason else Wish.GO_ON

    def obeyed(self) -> None:
        """Remove the stop file, so that the same command goes on."""
        if self._file and self.reason.startswith(str(self._file)):
            self._file.unlink(missing_ok=True)

    def hold(self) -> None:
        """From now on there is something to save: a signal asks for a stop."""
        with self._lock:
            self._holding = True

    def release(self) -> None:
        """From now on a signal ends the process at once. Raises Interrupted if one has asked already."""
        with self._lock:
            self._holding = False
        if self.requested:
            raise Interrupted('stopped')

    def arrived(self, number: int) -> None:
        """A signal came."""
        with self._lock:
            if self.requested:
                _leave(128 + number, 'stopped at once; what was saved before is whole')
            if not self._holding:
                _leave(RESUME_CODE, f'stopped by {signal.Signals(number).name}; start the same command again')
            self.requested = True
        log.warning('%s: saving and stopping; again to stop at once', signal.Signals(number).name)


@contextmanager
def watch_signals(file: Path | None = None, hours: float = 0.0) -> Iterator[StopRequest]:
    """Within the block SIGINT and SIGTERM go to the `StopRequest`, by a thread: Python's own handlers wait for the
    main thread, which may be in XLA for minutes. Anywhere but in the main thread, signals are not watched.
    """
    stop = StopRequest(file, hours)
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    heard = threading.Event()

    def wait(*_: object) -> None:
        heard.wait(1)  # where the main thread is in Python, it goes on when the signal is known of

    before = {number: signal.signal(number, wait) for number in _SIGNALS}
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    outer = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    thread = threading.Thread(target=_watch, args=(reader, stop, heard), daemon=True)
    thread.start()
    try:
        yield stop
    finally:
        signal.set_wakeup_fd(outer)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.write(writer, b'\0')
        thread.join()
        os.close(reader)
        os.close(writer)


@contextmanager
def unwinding() -> Iterator[None]:
    """Within the block SIGINT and SIGTERM unwind the main thread, as Ctrl-C does in Python: for work that has processes
    of its own to end. Of several processes of a job each leaves at once, for the others would wait for it.

    Raises:
        Interrupted: a signal came.
    """
    if threading.current_thread() is not threading.main_thread() or place()[1] > 1:
        yield
        return
    outer = signal.set_wakeup_fd(-1)
    before = {number: signal.signal(number, signal.default_int_handler) for number in _SIGNALS}
    try:
        yield
    except KeyboardInterrupt as error:
        raise Interrupted('stopped; what is finished is kept') from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(outer)


def usual_signals() -> None:
    """From now on signals are Python's own matter; those that are ignored stay so."""
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)


def _watch(reader: int, stop: StopRequest, heard: threading.Event) -> None:
    """Hear of signals from the pipe that Python's C handler writes their numbers to, up to a zero."""
    while number := os.read(reader, 1)[0]:
        if number in _SIGNALS:
            stop.arrived(number)
            heard.set()


def _leave(code: int, message: str) -> NoReturn:
    """End the process from any thread, whatever the others are at."""
    start = '\n' if os.isatty(2) else ''  # there may be a progress bar on the line
    os.write(2, f'{start}liver-jax: {message}\n'.encode())
    os._exit(code)
