"""The evaluator against plain numpy, whatever the batch and the number of devices."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

from liver_jax.data.store import SliceStore
from liver_jax.errors import UserError
from liver_jax.evaluation.evaluate import Evaluator, score_empty
from liver_jax.evaluation.run import make_evaluator
from liver_jax.evaluation.scores import summarise
from liver_jax.metrics.ssim import ssim_masks
from liver_jax.runtime.mesh import make_mesh, replicated
from liver_jax.training.recipe import make_recipe
from liver_jax.training.state import init_state


@pytest.fixture(scope='module')
def store(config):
    return SliceStore(Path(config.data.store))


@pytest.fixture(scope='module')
def network(config):
    recipe = make_recipe(config, 1)
    return recipe.model, init_state(recipe, 32, 0, make_mesh()).variables


def evaluator(config, store, network, rows, batch_size=8, devices=8, threshold=0.02):
    settings = dataclasses.replace(config.eval, batch_size=batch_size, threshold=threshold)
    return Evaluator(network[0], store, rows, 'tumor', settings, make_mesh(devices))


def test_counts_loss_and_ssim_equal_plain_numpy(config, store, network):
    rows = np.arange(13)
    scores = evaluator(config, store, network, rows).run(network[1])
    logits = network[0].apply(network[1], store.images(rows)[..., None] / np.float32(255), train=False)[..., 0]
    logits = np.asarray(logits, np.float64)
    probability = 1 / (1 + np.exp(-logits))
    soft = store.masks(rows, 'tumor') / 255
    prediction, reference = probability >= 0.02, soft >= 0.5
    assert 0 < prediction.mean() < 1  # else the comparison below would be an easy one
    np.testing.assert_array_equal(scores.counts.tp, (prediction & reference).sum((1, 2)))
    np.testing.assert_array_equal(scores.counts.fp, (prediction & ~reference).sum((1, 2)))
    np.testing.assert_array_equal(scores.counts.fn, (~prediction & reference).sum((1, 2)))
    np.testing.assert_array_equal(scores.counts.tn, (~prediction & ~reference).sum((1, 2)))
    expected = -(soft * np.log(probability) + (1 - soft) * np.log1p(-probability)).mean((1, 2))
    np.testing.assert_allclose(scores.loss, expected, atol=1e-5)
    ssim = [ssim_masks(*pair) for pair in zip(prediction, reference, strict=True)]
    np.testing.assert_allclose(scores.ssim, ssim, atol=1e-6)
    assert [row.index for row in scores.slices] == [store.rows[row].index for row in rows]


@pytest.mark.parametrize(('batch_size', 'devices'), [(16, 8), (4, 2), (5, 1)])
def test_padding_and_devices_do_not_change_scores(config, store, network, batch_size, devices):
    rows = np.arange(11)
    expected = evaluator(config, store, network, rows).run(network[1])
    variables = jax.device_put(network[1], make_mesh(devices).devices.flat[0]) if devices == 1 else network[1]
    if devices == 2:
        variables = jax.device_put(network[1], replicated(make_mesh(2)))
    scores = evaluator(config, store, network, rows, batch_size, devices).run(variables)
    np.testing.assert_array_equal(np.stack(scores.counts), np.stack(expected.counts))
    np.testing.assert_allclose(scores.loss, expected.loss, atol=1e-5)
    np.testing.assert_allclose(scores.ssim, expected.ssim, atol=1e-6)


def test_batch_that_devices_cannot_share_is_refused(config, store, network):
    with pytest.raises(UserError, match=r'eval\.batch_size is 12; expected a multiple of the 8 devices'):
        evaluator(config, store, network, np.arange(11), 12)


def test_a_run_is_scored_on_devices_that_cannot_share_its_batch(config, store, network):
    rows, mesh = np.arange(11), make_mesh(3)
    expected = evaluator(config, store, network, rows, threshold=config.eval.threshold).run(network[1])
    scores = make_evaluator(config, network[0], mesh, store, rows).run(jax.device_put(network[1], replicated(mesh)))
    np.testing.assert_array_equal(np.stack(scores.counts), np.stack(expected.counts))
    np.testing.assert_allclose(scores.loss, expected.loss, atol=1e-5)


def test_all_zero_baseline_by_hand(store):
    rows = np.arange(6)
    scores = score_empty(store, rows, 'tumor')
    inside = (store.masks(rows, 'tumor') >= 128).sum((1, 2))
    np.testing.assert_array_equal(scores.counts.fn, inside)
    summary = summarise(scores)
    assert summary['dice_image'] == summary['recall_pooled'] == 0
    assert np.isnan(summary['precision_pooled'])
    assert 0.5 < summary['ssim'] < 1
