"""When to stop, by hand."""

import math

from liver_jax.training.early_stopping import EarlyStopping


def after(*scores, patience=2, min_delta=0.1):
    stopping = EarlyStopping(patience, min_delta)
    for score in scores:
        stopping = stopping.update(score)
    return stopping


def test_stops_after_patience_epochs_without_improvement():
    assert not after(0.5, 0.5).should_stop
    assert after(0.5, 0.5, 0.4).should_stop


def test_improvement_must_exceed_min_delta():
    assert after(0.5, 0.59, 0.6).should_stop
    assert not after(0.5, 0.59, 0.61).should_stop


def test_small_steps_add_up_to_an_improvement():
    assert after(0.5, 0.56, 0.62).waited == 0


def test_nan_is_never_best_and_counts_as_waiting():
    stopping = after(0.5, math.nan, math.nan)
    assert stopping.best == 0.5
    assert stopping.should_stop


def test_waiting_starts_with_the_first_score():
    assert after(math.nan, 0.0, 0.0, 0.0).waited == 0
    assert after(0.0, 0.3, 0.0, 0.0).should_stop


def test_a_loss_counts_from_the_first_epoch():
    assert after(-0.3, -0.3, -0.3).should_stop
