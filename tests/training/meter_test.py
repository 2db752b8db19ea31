"""Losses and norms come from the device together, and the first number that is none is told with its step."""

import itertools
import math

import jax.numpy as jnp
import pytest

from liver_jax.training import meter as meter_module
from liver_jax.training.meter import Meter, NotFinite


def metrics(loss, gradient_norm=1.0):
    return {'gradient_norm': jnp.float32(gradient_norm), 'loss': jnp.float32(loss), 'learning_rate': jnp.float32(0.5)}


def test_a_row_has_the_mean_loss_and_the_last_of_the_rest():
    meter = Meter([3.0])  # of the steps before a restart
    meter.add(2, metrics(1.0, 7.0))
    meter.add(3, metrics(2.0, 8.0))
    meter.fetch()
    assert meter.row() == {'loss': 2.0, 'learning_rate': 0.5, 'gradient_norm': 8.0}
    assert meter.losses == []


@pytest.mark.parametrize('number', [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize('what', ['loss', 'gradient norm'])
def test_the_first_step_that_is_not_finite_is_told(what, number):
    meter = Meter([])
    bad = metrics(number, math.nan) if what == 'loss' else metrics(1.0, number)
    for step, each in enumerate([metrics(1.0), metrics(1.0), bad, metrics(math.nan, math.nan)], start=5):
        meter.add(step, each)
    with pytest.raises(NotFinite, match=f'the {what} is {number} at step 7') as failure:
        meter.fetch()
    assert (failure.value.what, failure.value.step) == (what, 7)


def test_seconds_of_a_step_without_what_is_no_training(monkeypatch):
    times = itertools.count()  # a clock that ticks whenever it is looked at
    monkeypatch.setattr(meter_module.time, 'monotonic', lambda: float(next(times)))
    meter = Meter([])
    for step in (1, 2, 3, 4):
        meter.add(step, metrics(1.0))  # the first looks at the clock: 0
    meter.fetch()
    meter.row()  # 1
    assert meter.seconds == 0.25
    meter.add(5, metrics(1.0))
    meter.fetch()
    meter.row()  # 2
    assert meter.seconds == 1.0
    meter.restart()
    next(times)  # 3: a validation
    meter.add(6, metrics(1.0))  # 4
    meter.fetch()
    meter.row()  # 5
    assert meter.seconds == 1.0
