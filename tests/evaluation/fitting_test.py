"""Fitting to validation: by hand, and proof that test data cannot reach it."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from liver_jax.data.prepare import prepare
from liver_jax.data.slices import prepare_image
from liver_jax.data.splits import make_split
from liver_jax.data.store import SliceStore
from liver_jax.data.volumes import open_scan, read_case
from liver_jax.errors import UserError
from liver_jax.evaluation.fitting import case_logits, fit, fit_threshold
from liver_jax.evaluation.postprocess import drop_small
from liver_jax.evaluation.scans import find_scans, make_part
from liver_jax.evaluation.volumes import Predictor
from liver_jax.metrics.calibration import count_logits
from small_ct import small_config, write_cases

WINDOW = (-160.0, 240.0)


def darkness(batch_size=4):
    """A network that calls tumour what is neither as bright as liver nor as dark as air: 0 HU has .73."""

    def function(images):
        hu = WINDOW[0] + images.astype(np.float32) / 255 * (WINDOW[1] - WINDOW[0])
        return 1 / (1 + np.exp(-(40 - np.abs(hu)) / 40))

    return Predictor(function, WINDOW, 32, batch_size)


class Guarded(SliceStore):
    """A store that may be read at some rows only."""

    allowed: set[int]

    def _take(self, name, rows, buffers):
        assert set(rows.tolist()) <= self.allowed, 'slices outside validation were read'
        return super()._take(name, rows, buffers)


@pytest.fixture(scope='module')
def fitted_to(config):
    store = SliceStore(Path(config.data.store))
    split = make_split(store, config.split)
    scans, note = find_scans(store, config.data)
    assert note == ''
    return store, split, scans, fit(darkness(), store, split, 'tumor', scans)


def test_only_validation_slices_and_scans_are_read(config, fitted_to, monkeypatch):
    _, split, scans, expected = fitted_to
    store = Guarded(Path(config.data.store))
    store.allowed = set(split.rows['val'].tolist())
    opened = []
    monkeypatch.setattr(
        'liver_jax.evaluation.scans.open_scan', lambda case, window: opened.append(case.name) or open_scan(case, window)
    )
    assert fit(darkness(), store, split, 'tumor', scans) == expected
    assert set(opened) == {case.case for case in split.parts['val']}
    with pytest.raises(AssertionError, match='outside validation'):
        store.masks(split.rows['test'], 'tumor')


@pytest.mark.parametrize(('part', 'same'), [('test', True), ('train', True), ('val', False)])
def test_other_data_change_the_fit_only_if_they_are_validation(config, fitted_to, tmp_path, part, same):
    """Masks of the part are turned inside out, in the store and in the volumes."""
    store, split, _, _ = fitted_to
    expected = fit(darkness(), store, split, 'tumor')
    shutil.copytree(config.data.store, tmp_path / 'store')
    for name in ('tumor', 'liver'):
        masks = np.load(tmp_path / 'store' / f'{name}.npy')
        masks[split.rows[part]] = 255 - masks[split.rows[part]]
        np.save(tmp_path / 'store' / f'{name}.npy', masks)
    found = fit(darkness(), SliceStore(tmp_path / 'store'), split, 'tumor')
    assert (found == expected) is same
    assert expected.min_mm3 is None


def test_threshold_by_hand():
    # Foreground at logit 1 and 0.5, background at 0.75: thresholds below .5 find all but one, Dice 2*2/5.
    case = count_logits(np.array([1.0, 0.5, 0.76, -3]), np.array([True, True, False, False]))
    assert fit_threshold([case]) == (0.5, pytest.approx(4 / 5))
    # A second case, where all above 0.3 is background but one pixel at 2: the mean is best above that.
    other = count_logits(np.array([2.0, *[0.3] * 8, *[0.9] * 9]), np.array([True] + [False] * 17))
    threshold, dice = fit_threshold([case, other])
    assert 1 / (1 + np.exp(-0.9)) < threshold <= 1 / (1 + np.exp(-1.0))
    assert dice == pytest.approx((2 / 3 + 1) / 2)
    assert np.isnan(fit_threshold([count_logits(np.array([-9.0]), np.array([False]))])[1])


def test_fitted_values_are_those_of_the_slices(fitted_to):
    store, split, _, fitted = fitted_to
    pixels = case_logits(darkness(), store, split.rows['val'], 'tumor')
    assert sum(int(case.everywhere.total.sum()) for case in pixels.values()) == len(split.rows['val']) * 32 * 32
    other = case_logits(darkness(batch_size=7), store, split.rows['val'], 'tumor')
    assert all(
        (one.total == two.total).all() for case in pixels for one, two in zip(pixels[case], other[case], strict=True)
    )
    assert fitted.min_mm3 in (0, 10, 20, 50, 100, 200, 500, 1000)
    assert fitted.describe()['on'] == 'val'


def test_smallest_lesion_is_fitted_where_specks_hurt(tmp_path):
    """Noise of single voxels beside a large lesion: dropping it is best."""
    config = small_config(write_cases(tmp_path, 4), tmp_path / 'store')
    prepare(config.data)
    store = SliceStore(Path(config.data.store))
    split = make_split(store, config.split)
    specks = np.random.default_rng(0).random((32, 32)) < 0.02

    def function(images):
        hu = -160 + images.astype(np.float32) / 255 * 400
        return np.where((np.abs(hu) < 12) | specks, 0.9, 0.1).astype(np.float32)

    fitted = fit(Predictor(function, WINDOW, 32, 4), store, split, 'tumor', find_scans(store, config.data)[0])
    assert fitted.min_mm3 > 0
    # Every threshold between .1 and .9 marks the same, and that nearest to one half is taken.
    assert fitted.threshold == pytest.approx(0.5)


def test_threshold_and_size_on_whole_scans_beat_their_neighbours(fitted_to):
    """The Dice that was reached, counted anew on whole volumes; half or all of it is lost at the ends."""
    store, split, scans, fitted = fitted_to
    part = make_part(store, split, 'val', scans)
    dice = {threshold: [] for threshold in (0.1, fitted.threshold, 0.9)}
    for case, _ in part.scans:
        volume = read_case(case)
        small = np.stack([prepare_image(plane, WINDOW, 32) for plane in volume.hu])
        for threshold, values in dice.items():
            marked = darkness().function(small) >= threshold
            drop_small(marked, fitted.min_mm3 / 9.0)
            reference = volume.labels == 2
            values.append(2 * (marked & reference).sum() / (marked.sum() + reference.sum()))
    reached = {threshold: np.mean(values) for threshold, values in dice.items()}
    assert reached[fitted.threshold] == pytest.approx(fitted.val_dice)
    assert max(reached[0.1], reached[0.9]) < fitted.val_dice


def test_a_network_that_gives_nan_is_refused_by_name(fitted_to):
    store, split, _, _ = fitted_to
    broken = Predictor(lambda images: np.full(images.shape, np.nan, np.float32), WINDOW, 32, 4)
    with pytest.raises(UserError, match='the network gives NaN for slices of volume-'):
        fit(broken, store, split, 'tumor')
