"""Timing in turns: A B A B, each side synchronised, so that what else the machine does falls on all of them."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

Side = Callable[[int], object]  # makes so many calls and comes back when their work is done
ROUNDS = 5
MOST = 2000  # calls of a turn


@dataclasses.dataclass(frozen=True)
class Turns:
    """Seconds of one call in each round, and those that the process had of processors (all of its threads)."""

    seconds: list[float]
    processor_seconds: list[float]


def in_turns(sides: Mapping[str, Side], seconds: float, rounds: int = ROUNDS, unmeasured: int = 0) -> dict[str, Turns]:
    """The sides in turns of about so many seconds, each after so many calls that are not measured.

    The first call of a side is left out: it compiles, or warms up. So is the one that tells how many make a turn.
    """
    calls = {}
    for name, side in sides.items():
        side(1)
        calls[name] = int(np.clip(seconds / max(_timed(side, 1)[0], 1e-9), 1, MOST))
    turns: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            if unmeasured:
                side(unmeasured)
            turns[name].append(_timed(side, calls[name]))
    return {name: Turns(*map(list, zip(*each, strict=True))) for name, each in turns.items()}


def rate(seconds: Sequence[float], amount: float) -> dict[str, float]:
    """Median, lowest and highest rate over the rounds, of calls that do so much each."""
    rates = amount / np.array(seconds)
    return {'median': float(np.median(rates)), 'lowest': float(rates.min()), 'highest': float(rates.max())}


def ratio(ours: Sequence[float], other: Sequence[float]) -> dict[str, float]:
    """How many times as fast ours is: median, lowest and highest over the rounds, each of neighbours in time."""
    return rate([a / b for a, b in zip(ours, other, strict=True)], 1.0)


def _timed(side: Side, calls: int) -> tuple[float, float]:
    start, own = time.perf_counter(), time.process_time()
    side(calls)
    return (time.perf_counter() - start) / calls, (time.process_time() - own) / calls
