"""Sides in turns: who is called, in which order, and what is made of the times. How long it took, no test can tell."""

import pytest

from liver_jax.bench import timing
from liver_jax.bench.timing import Turns, in_turns, rate, ratio


@pytest.fixture
def clock(monkeypatch):
    """A clock that the sides themselves move."""
    now = [0.0]
    monkeypatch.setattr(timing.time, 'perf_counter', lambda: now[0])
    monkeypatch.setattr(timing.time, 'process_time', lambda: 2 * now[0])
    return now


def test_sides_take_turns_and_each_has_its_seconds_per_call(clock):
    calls = []

    def side(name, seconds):
        def call(count):
            calls.append((name, count))
            clock[0] += count * seconds

        return call

    turns = in_turns({'a': side('a', 0.25), 'b': side('b', 2.0)}, seconds=1.0, rounds=2)
    warm_up = [('a', 1), ('a', 1), ('b', 1), ('b', 1)]
    assert calls == [*warm_up, *[('a', 4), ('b', 1)] * 2]
    assert turns == {'a': Turns([0.25, 0.25], [0.5, 0.5]), 'b': Turns([2.0, 2.0], [4.0, 4.0])}


def test_what_was_made_ahead_is_taken_before_the_clock_runs(clock):
    left = [3]

    def side(count):
        for _ in range(count):
            clock[0] += 0 if left[0] > 0 else 1
            left[0] -= 1

    assert in_turns({'a': side}, seconds=2.0, rounds=1, unmeasured=3)['a'].seconds == [1.0]


def test_rates_and_ratios_by_hand():
    assert rate([0.5, 2.0, 1.0], 8) == {'median': 8.0, 'lowest': 4.0, 'highest': 16.0}
    # Twice as slow as its neighbour in time, four times as fast, as fast: the ratio of medians would be 1.5.
    assert ratio([2.0, 1.0, 3.0], [1.0, 4.0, 3.0]) == {'median': 1.0, 'lowest': 0.5, 'highest': 4.0}
