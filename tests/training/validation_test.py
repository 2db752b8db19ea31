"""Validation reports the loss trained with; a slice without a number, which the mean would leave out, ends it."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from liver_jax.data.augment import to_unit
from liver_jax.data.splits import make_split
from liver_jax.data.store import SliceStore
from liver_jax.evaluation.evaluate import Evaluator
from liver_jax.evaluation.run import Run
from liver_jax.evaluation.scores import summarise
from liver_jax.metrics.losses import dice
from liver_jax.runtime.interrupt import StopRequest
from liver_jax.runtime.mesh import make_mesh
from liver_jax.runtime.telemetry import Telemetry
from liver_jax.training.meter import NotFinite
from liver_jax.training.recipe import make_recipe
from liver_jax.training.state import init_state
from liver_jax.training.validation import Validation


def test_its_loss_is_the_mean_over_slices_of_the_loss_trained_with(config, tmp_path):
    config = dataclasses.replace(
        config,
        loss=dataclasses.replace(config.loss, name='dice'),
        train=dataclasses.replace(config.train, monitor='loss'),
    )
    store, mesh = SliceStore(Path(config.data.store)), make_mesh(1)
    split, recipe = make_split(store, config.split), make_recipe(config, 1)
    state, rows = init_state(recipe, 32, 0, mesh), split.rows['val']
    logits = recipe.model.apply(state.variables, to_unit(store.images(rows)), train=False)
    expected = float(dice(logits, to_unit(store.masks(rows, 'tumor'))).mean())

    validation = Validation(recipe.model, config, store, split, mesh)
    with Telemetry(tmp_path, 0) as telemetry:
        summary = validation.run(state, 0, telemetry, StopRequest())
    assert summary['loss'] == pytest.approx(expected, abs=1e-5)
    assert validation.monitored(summary) == -summary['loss']

    run = Run(config, recipe.model, mesh, 0, state.variables, split.digest)  # as `evaluate` scores it
    np.testing.assert_allclose(summarise(run.evaluator(store, rows).run(state.variables))['loss'], expected, atol=1e-5)


def test_one_slice_without_a_number_is_told_with_its_row(config, monkeypatch):
    store, mesh, recipe = SliceStore(Path(config.data.store)), make_mesh(), make_recipe(config, 4)
    split = make_split(store, config.split)
    validation = Validation(recipe.model, config, store, split, mesh)
    run = Evaluator.run

    def with_a_gap(self, *arguments):
        scores = run(self, *arguments)
        return dataclasses.replace(scores, loss=np.where(np.arange(len(scores.slices)) == 2, np.nan, scores.loss))

    monkeypatch.setattr(Evaluator, 'run', with_a_gap)
    with pytest.raises(NotFinite, match='the validation loss is nan at step 7') as failure:
        validation.run(init_state(recipe, 32, 0, mesh), 7, telemetry=None, stop=StopRequest())
    assert failure.value.rows == [split.rows['val'][2]]
