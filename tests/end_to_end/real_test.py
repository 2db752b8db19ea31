"""On real LiTS volumes, where LIVER_JAX_LITS names their folder (Kaggle's layout, volumes 0 to 5)."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest

from liver_jax.data.layouts import Case
from liver_jax.data.prepare import prepare
from liver_jax.data.store import SliceStore
from liver_jax.data.volumes import read_case
from liver_jax.evaluation.predict import predict
from liver_jax.evaluation.segment import Options
from liver_jax.runtime.telemetry import read_history
from liver_jax.training.loop import train
from small_ct import small_config

LITS = os.environ.get('LIVER_JAX_LITS', '')
pytestmark = pytest.mark.skipif(not LITS, reason='LIVER_JAX_LITS is not set')

# Slices and voxels with tumour, as published with the volumes.
TUMOUR = {0: (16, 2591), 1: (17, 6983), 2: (29, 14131), 3: (15, 2793), 4: (237, 1515249), 5: (11, 540)}


@pytest.fixture(scope='module')
def real(tmp_path_factory):
    config = small_config(Path(LITS), tmp_path_factory.mktemp('real') / 'store', data_workers=2, train_epochs=2)
    prepare(config.data)
    return config


def test_slices_and_tumour_areas_are_those_of_the_labels(real):
    store = SliceStore(Path(real.data.store))
    for case in store.manifest['cases']:
        slices, voxels = TUMOUR[int(case['name'].split('-')[1])]
        pixel = case['spacing_mm'][1] * case['spacing_mm'][2]
        assert len(case['slices']) == slices
        assert sum(row['tumor_mm2'] for row in case['slices']) / pixel == pytest.approx(voxels, rel=1e-3)


def test_soft_masks_keep_the_area(real):
    store = SliceStore(Path(real.data.store))
    rows = np.arange(len(store))
    for target, area in (('tumor', 'tumor_area'), ('liver_or_tumor', 'liver_area')):
        kept = store.masks(rows, target).sum((1, 2), dtype=float) / 255 * (512 / 32) ** 2
        pixels = {case['name']: case['spacing_mm'][1] * case['spacing_mm'][2] for case in store.manifest['cases']}
        expected = np.array([getattr(row, area) / pixels[row.case] for row in store.rows])
        assert kept.sum() == pytest.approx(expected.sum(), rel=0.01)


def test_liver_is_on_the_left_of_the_picture_and_looks_like_liver(real):
    store = SliceStore(Path(real.data.store))
    rows = np.array([number for number, row in enumerate(store.rows) if row.liver_area > 8000])
    masks = store.masks(rows, 'liver_or_tumor') / 255
    columns = (masks.sum(1) * np.arange(32)).sum(1) / masks.sum((1, 2))
    assert (columns < 16).all()
    hu = (store.images(rows) / 255 * masks).sum() / masks.sum() * 400 - 160
    assert 50 < hu < 180


def test_a_small_network_learns_real_liver(real, tmp_path):
    merged = dataclasses.replace(
        real,
        data=dataclasses.replace(real.data, target='liver_or_tumor'),
        split=dataclasses.replace(real.split, by='slice'),
        train=dataclasses.replace(real.train, epochs=10),
    )
    train(merged, tmp_path / 'run')
    validation = [row for row in read_history(tmp_path / 'run') if 'val/loss' in row]
    assert validation[-1]['val/dice_pooled'] > 0.5
    source = next(Path(LITS).rglob('volume-0.nii.gz'))
    predict(tmp_path / 'run', source, tmp_path / 'out', 'best', Options(largest_component=True))
    volume = read_case(Case('volume-0', 'nifti', (source,), (next(Path(LITS).rglob('segmentation-0.nii.gz')),), ''))
    made = read_case(Case('made', 'nifti', (source,), (tmp_path / 'out' / 'volume-0.nii.gz',), ''))
    inside = volume.labels > 0
    assert 2 * (inside & (made.labels > 0)).sum() / (inside.sum() + (made.labels > 0).sum()) > 0.5
