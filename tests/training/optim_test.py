"""Learning rates by hand."""

import dataclasses

import numpy as np
import pytest

from liver_jax.training.optim import make_schedule


def schedule(config, **changes):
    return make_schedule(dataclasses.replace(config.optim, learning_rate=1.0, **changes), 10, 5)


def test_warm_up_rises_linearly_to_the_peak(config):
    rates = [float(schedule(config)(step)) for step in (0, 5, 10)]
    assert rates == pytest.approx([1 / 11, 6 / 11, 1.0], abs=1e-6)


def test_cosine_falls_to_zero_at_the_last_epoch(config):
    rates = [float(schedule(config, warmup_epochs=0.0)(step)) for step in (0, 25, 50)]
    assert rates == pytest.approx([1.0, 0.5, 0.0], abs=1e-6)


def test_constant_stays(config):
    rates = [float(schedule(config, schedule='constant')(step)) for step in (10, 30, 50)]
    np.testing.assert_allclose(rates, 1.0)


def test_a_run_shorter_than_its_warm_up_still_learns(config):
    short = make_schedule(dataclasses.replace(config.optim, warmup_epochs=9.0), 1, 1)
    assert float(short(0)) > 0
