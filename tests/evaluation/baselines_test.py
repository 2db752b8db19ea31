"""Baselines and ceiling on masks small enough to count by eye."""

from pathlib import Path

import numpy as np
import pytest

from liver_jax.data.store import SliceStore
from liver_jax.evaluation.baselines import (
    baseline_masks,
    ceiling_masks,
    fit_hu_threshold,
    score_baselines,
    target_of,
)
from liver_jax.evaluation.scores import summarise

LABELS = np.array([[0, 1, 1, 2], [0, 1, 2, 2]], np.uint8)
HU = np.array([[10, 100, 40, 50], [60, 110, 45, 80]], np.int16)
WINDOW = (-160.0, 240.0)


@pytest.fixture(scope='module')
def store(config):
    return SliceStore(Path(config.data.store))


def test_predictions_without_a_network():
    masks = baseline_masks(HU, LABELS, 'tumor', 55)
    assert {name: mask.astype(int).tolist() for name, mask in masks.items()} == {
        'all_zero': [[0, 0, 0, 0], [0, 0, 0, 0]],
        'whole_liver': [[0, 1, 1, 1], [0, 1, 1, 1]],
        'hu_threshold': [[0, 0, 1, 1], [0, 0, 1, 0]],
    }
    assert list(baseline_masks(HU, LABELS, 'tumor', None)) == ['all_zero', 'whole_liver']


@pytest.mark.parametrize('target', ['liver', 'liver_or_tumor'])
def test_a_target_with_the_liver_in_it_is_not_given_the_liver(store, target):
    assert list(baseline_masks(HU, LABELS, target, None)) == ['all_zero']
    assert list(score_baselines(store, np.arange(4), target, None)) == ['all_zero']


def test_scores_on_prepared_slices_are_those_of_plain_numpy(store):
    rows = np.arange(10)
    scores = score_baselines(store, rows, 'tumor', 50.0)
    liver, tumor = store.masks(rows, 'liver_or_tumor') >= 128, store.masks(rows, 'tumor') >= 128
    dark = liver & (store.images(rows) / 255 * 400 - 160 < 50)
    for name, marked in (('whole_liver', liver), ('hu_threshold', dark)):
        expected = 2 * (marked & tumor).sum() / (marked.sum() + tumor.sum())
        assert summarise(scores[name])['dice_pooled'] == pytest.approx(expected)
        np.testing.assert_array_equal(scores[name].counts.tn, (~marked & ~tumor).sum((1, 2)))
    assert summarise(scores['all_zero'])['dice_case'] == 0


def test_the_threshold_in_hu_finds_the_dark_lesion(store):
    # In these volumes liver has 110 and tumour 0 HU, with noise of 8; soft borders lie between.
    threshold = fit_hu_threshold(store, np.arange(len(store)))
    assert 30 < threshold < 90
    found = summarise(score_baselines(store, np.arange(len(store)), 'tumor', threshold)['hu_threshold'])
    assert found['dice_case'] > 0.9
    for other in (threshold - 20, threshold + 20):
        worse = summarise(score_baselines(store, np.arange(len(store)), 'tumor', other)['hu_threshold'])
        assert worse['dice_case'] <= found['dice_case']


def ceiling(labels, side, name):
    reference = target_of(labels, 'tumor')
    mask = ceiling_masks(np.zeros(labels.shape), labels, 'tumor', WINDOW, side)[name]
    return 2 * (mask & reference).sum() / (mask.sum() + reference.sum())


@pytest.mark.parametrize('name', ['ceiling_best', 'ceiling_soft', 'ceiling_nearest'])
def test_nothing_is_lost_on_a_grid_of_the_same_size(name):
    labels = np.zeros((16, 16), np.uint8)
    labels[3:6, 4:9] = 2
    assert ceiling(labels, 16, name) == 1


def test_a_pixel_is_lost_at_a_quarter_of_the_size_but_not_for_the_best_cut():
    # One of 16 pixels: at most 1/16 on the small grid, 15/256 after rounding to bytes, and less between grid points.
    labels = np.zeros((16, 16), np.uint8)
    labels[5, 6] = 2
    assert ceiling(labels, 4, 'ceiling_soft') == 0
    # The restored values are highest on a 2x2 square around the centre of the small pixel, which holds the lesion.
    assert ceiling(labels, 4, 'ceiling_best') == pytest.approx(2 / 5)


def test_soft_masks_allow_more_than_hard_ones():
    rows, columns = np.mgrid[:256, :256]
    labels = np.where((rows - 131.3) ** 2 + (columns - 117.6) ** 2 < 10**2, 2, 1).astype(np.uint8)
    best, soft, nearest = (ceiling(labels, 64, f'ceiling_{name}') for name in ('best', 'soft', 'nearest'))
    assert 0.8 < nearest < soft <= best < 1
    assert not ceiling_masks(np.zeros((8, 8)), np.ones((8, 8), np.uint8), 'tumor', WINDOW, 4)['ceiling_best'].any()
