"""The best checkpoint by hand: NaN never is, and the earlier of equals stays."""

import json
import math

import pytest

from liver_jax.training.early_stopping import EarlyStopping
from liver_jax.training.progress import Progress


def after(*scores):
    progress = Progress({'next_index': 0}, EarlyStopping(2, 0.0))
    for epoch, score in enumerate(scores, start=1):
        progress = progress.after(10 * epoch, score)
    return progress


@pytest.mark.parametrize(
    ('scores', 'step', 'score'),
    [
        ([0.2, 0.3, 0.1], 20, 0.3),
        ([0.3, 0.3], 10, 0.3),
        ([0.3, math.nan], 10, 0.3),
        ([math.nan, 0.3], 20, 0.3),
        ([math.nan, math.nan], None, None),
        ([-0.5, math.nan, -0.6], 10, -0.5),  # monitored loss, negated
    ],
)
def test_the_best_step(scores, step, score):
    progress = after(*scores)
    assert (progress.best_step, progress.best_score) == (step, score)
    assert progress.validated == 10 * len(scores)


def test_it_comes_back_from_json():
    progress = after(0.2, 0.1)
    assert Progress.from_json(json.loads(json.dumps(progress.to_json()))) == progress
