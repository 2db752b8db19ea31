"""Validation: a slice without a number ends it, though the mean would leave that slice out."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from liver_jax.data.splits import make_split
from liver_jax.data.store import SliceStore
from liver_jax.evaluation.evaluate import Evaluator
from liver_jax.runtime.mesh import make_mesh
from liver_jax.training.meter import NotFinite
from liver_jax.training.recipe import make_recipe
from liver_jax.training.state import init_state
from liver_jax.training.validation import Validation


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
        validation.run(init_state(recipe, 32, 0, mesh), 7, telemetry=None)
    assert failure.value.rows == [split.rows['val'][2]]
