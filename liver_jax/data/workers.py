"""One function over many cases, in processes: time limit, progress with the time left, clean ends."""

import functools
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

from tqdm import tqdm

from liver_jax.data.layouts import Case
from liver_jax.errors import UserError

log = logging.getLogger(__name__)
Result = TypeVar('Result')
LOG_SECONDS = 30.0  # between lines about progress where there is no terminal


def over_cases(
    function: Callable[..., Result], jobs: Sequence[tuple[Any, ...]], workers: int, seconds: float, title: str
) -> Iterator[tuple[int, Result]]:
    """Yield (number, function(*job)) as jobs end; the first entry of a job is its Case. Spawned processes if several.

    Raises:
        UserError: a case that takes longer than `seconds`; and whatever the function raises, at once, others killed.
    """
    limited = functools.partial(_within, seconds, function)
    progress = _Progress([sum(path.stat().st_size for path in (*job[0].images, *job[0].labels)) for job in jobs], title)
    with progress:
        if workers == 1 or len(jobs) <= 1:
            for number, job in enumerate(jobs):
                yield number, limited(*job)
                progress.done(number)
            return
        # Spawned, not forked: a fork would copy the locks of threads that libraries have started.
        context = multiprocessing.get_context('spawn')
        with ProcessPoolExecutor(min(workers, len(jobs)), context, _follow_parent) as pool:
            try:
                # Workers are born deaf to Ctrl-C, which is the parent's: they would die of it while they import.
                signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
                numbers = {pool.submit(limited, *job): number for number, job in enumerate(jobs)}
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
                for future in as_completed(numbers):
                    yield numbers[future], future.result()
                    progress.done(numbers[future])
            except BaseException as error:
                for worker in multiprocessing.active_children():
                    worker.kill()  # nothing is lost but their volumes of the moment: parts get their names when whole
                pool.shutdown(cancel_futures=True)
                if isinstance(error, BrokenProcessPool):
                    raise UserError(
                        f'{title}: a process was killed, perhaps for lack of memory; set data.workers lower and go on '
                        'with the same command'
                    ) from error
                raise


def _follow_parent() -> None:
    """In a worker: leave Ctrl-C to the parent, and end when the parent was killed (it would wait for work forever)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        assert parent is not None
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _within(seconds: float, function: Callable[..., Result], case: Case, *rest: Any) -> Result:
    with _time_limit(seconds, case):
        return function(case, *rest)


@contextmanager
def _time_limit(seconds: float, case: Case) -> Iterator[None]:
    """Ends what runs within by an alarm, which only the main thread hears."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise UserError(
            f'{case.images[0]}: not done after {seconds:g} s; see whether the disk answers, '
            'leave the volume out or raise data.case_seconds'
        )

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class _Progress:
    """A bar that counts bytes, for volumes differ; where there is no terminal, a line now and then."""

    def __init__(self, sizes: list[int], title: str) -> None:
        self._sizes, self._title = sizes, title
        self._bar = tqdm(
            total=sum(sizes), desc=f'{title} 0/{len(sizes)}', unit='B', unit_scale=True, disable=None, leave=False,
            dynamic_ncols=True,
        )  # fmt: skip
        self._done, self._bytes, self._start = 0, 0, time.monotonic()
        self._logged = self._start

    def __enter__(self) -> '_Progress':
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def done(self, number: int) -> None:
        """One more case is done."""
        self._done, self._bytes = self._done + 1, self._bytes + self._sizes[number]
        self._bar.set_description(f'{self._title} {self._done}/{len(self._sizes)}', refresh=False)
        self._bar.update(self._sizes[number])
        now = time.monotonic()
        if self._bar.disable and now - self._logged > LOG_SECONDS:
            left = (now - self._start) * (sum(self._sizes) / max(self._bytes, 1) - 1)
            log.info('%s: %d of %d volumes, about %.0f min left', self._title, self._done, len(self._sizes), left / 60)
            self._logged = now
