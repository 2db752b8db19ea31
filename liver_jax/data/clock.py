"""How long each stage of the stream takes: wall seconds, summed over the threads it runs in. No JAX here."""

import threading
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

Arguments = ParamSpec('Arguments')
Result = TypeVar('Result')


class Clock:
    """Seconds by stage, since the last look."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._lock = threading.Lock()

    def timed(self, stage: str, function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
        """`function`, its time counted for `stage`; that costs less than a microsecond a call."""

        def call(*arguments: Arguments.args, **named: Arguments.kwargs) -> Result:
            start = time.perf_counter()
            result = function(*arguments, **named)
            taken = time.perf_counter() - start
            with self._lock:
                self._seconds[stage] = self._seconds.get(stage, 0.0) + taken
            return result

        return call

    def take(self) -> dict[str, float]:
        """Seconds by stage since the last call."""
        with self._lock:
            taken, self._seconds = self._seconds, {}
        return taken
