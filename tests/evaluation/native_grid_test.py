"""Probabilities on the scan's own grid: every orientation, every batch size, any number of devices."""

import dataclasses

import numpy as np
import pytest

from liver_jax.data.formats.nifti import write_nifti
from liver_jax.data.layouts import Case
from liver_jax.data.slices import prepare_slice, restore_slice
from liver_jax.data.volumes import open_scan, read_case
from liver_jax.errors import UserError
from liver_jax.evaluation.run import Run
from liver_jax.evaluation.volumes import Predictor, make_predictor, predict_scan, to_native
from liver_jax.runtime.mesh import make_mesh
from liver_jax.training.recipe import make_recipe
from liver_jax.training.state import init_state
from orientations import ORIENTATIONS, oblique, orientation_affine

SHAPE = (5, 6, 7)


def identity(side: int, batch_size: int = 2) -> Predictor:
    """Voxels of 0 and 1 HU are their own probabilities."""
    return Predictor(lambda images: images.astype(np.float32) / 255, (0.0, 1.0), side, batch_size)


def network(config, devices: int, batch_size: int) -> Run:
    """As it is before training, but for a prior of one half, so that probabilities differ from pixel to pixel."""
    config = dataclasses.replace(
        config,
        eval=dataclasses.replace(config.eval, batch_size=batch_size),
        model=dataclasses.replace(config.model, prior=0.5),
    )
    mesh, recipe = make_mesh(devices), make_recipe(config, 1)
    return Run(config, recipe.model, mesh, 0, init_state(recipe, 32, 0, mesh).variables, '')


def save(folder, array, affine, labels=False) -> Case:
    write_nifti(folder / 'volume.nii.gz', array, affine)
    if labels:
        write_nifti(folder / 'labels.nii.gz', array.astype(np.uint8), affine)
    return Case('volume', 'nifti', (folder / 'volume.nii.gz',), (folder / 'labels.nii.gz',) * labels, '')


@pytest.mark.parametrize('letters', [*ORIENTATIONS, 'oblique'])
def test_an_identity_model_gives_the_file_back(letters, tmp_path):
    array = np.random.default_rng(0).integers(0, 2, SHAPE).astype(np.int16)
    scan = open_scan(save(tmp_path, array, oblique() if letters == 'oblique' else orientation_affine(letters)))
    canonical = np.full(scan.size, np.nan, np.float32)
    for plane in predict_scan(identity(max(scan.size[1:])), scan):
        assert plane.labels is None
        np.testing.assert_array_equal(plane.probability, plane.hu)
        canonical[plane.index] = plane.probability
    np.testing.assert_array_equal(to_native(canonical, scan), array)


def test_there_are_48_orientations():
    assert len(set(ORIENTATIONS)) == 48


def test_planes_carry_hu_and_labels_of_their_slice(tmp_path):
    array = np.random.default_rng(1).integers(0, 3, SHAPE).astype(np.int16)
    volume = read_case(save(tmp_path, array, orientation_affine('LPI'), labels=True))
    planes = list(predict_scan(identity(6), volume.scan))
    assert [plane.index for plane in planes] == [6, 5, 4, 3, 2, 1, 0]
    for plane in planes:
        np.testing.assert_array_equal(plane.hu, volume.hu[plane.index])
        np.testing.assert_array_equal(plane.labels, volume.labels[plane.index])


@pytest.mark.parametrize(('devices', 'batch_size', 'tolerance'), [(1, 3, 1e-6), (8, 3, 1e-6), (4, 64, 1e-6), (1, 8, 0)])
def test_neither_batch_size_nor_devices_matter(config, raw, devices, batch_size, tolerance):
    scan = open_scan(Case('volume-0', 'nifti', (raw / 'volume-0.nii.gz',), (), ''))
    expected = list(predict_scan(make_predictor(network(config, 1, 8)), scan))
    found = list(predict_scan(make_predictor(network(config, devices, batch_size)), scan))
    assert [plane.index for plane in found] == list(range(8))
    assert np.ptp([plane.probability for plane in expected]) > 0.1
    for one, other in zip(found, expected, strict=True):
        assert one.probability.dtype == np.float32
        np.testing.assert_allclose(one.probability, other.probability, rtol=0, atol=tolerance)


def test_flips_average_the_mirrored_slices(config, raw):
    run = network(config, 1, 8)
    run = dataclasses.replace(
        run, config=dataclasses.replace(config, augment=dataclasses.replace(config.augment, flip=0.5, flip_rows=0))
    )
    images = np.random.default_rng(0).integers(0, 256, (8, 32, 32)).astype(np.uint8)
    plain = make_predictor(run).function
    expected = (np.asarray(plain(images)) + np.asarray(plain(images[..., ::-1]))[..., ::-1]) / 2
    np.testing.assert_allclose(make_predictor(run, flips=True).function(images), expected, atol=1e-6)
    assert abs(expected - np.asarray(plain(images))).max() > 1e-3
    run.config.augment.__dict__['flip'] = 0.0
    with pytest.raises(UserError, match='trained with mirrored slices'):
        make_predictor(run, flips=True)


def test_nan_is_refused_with_the_slice(raw):
    scan = open_scan(Case('volume-0', 'nifti', (raw / 'volume-0.nii.gz',), (), ''))
    broken = Predictor(lambda images: np.full(images.shape, np.nan, np.float32), (0.0, 1.0), 32, 4)
    with pytest.raises(UserError, match=r'volume-0\.nii\.gz: the network gives NaN in slice 0; expected'):
        list(predict_scan(broken, scan))


def test_restoring_by_hand():
    # Two pixels become four: centres at 1/4, 3/4, 5/4, 7/4 of the small ones, whose own lie at 1/2 and 3/2.
    np.testing.assert_allclose(restore_slice(np.float32([[0, 1], [0, 1]]), 4, 4)[0], [0, 0.25, 0.75, 1])


@pytest.mark.parametrize(('rows', 'columns', 'side'), [(64, 48, 16), (50, 61, 16), (9, 12, 12), (20, 30, 47)])
def test_a_disc_stays_where_it_is(rows, columns, side):
    y, x = np.mgrid[:rows, :columns]
    disc = (y - 0.4 * rows) ** 2 + (x - 0.6 * columns) ** 2 < (min(rows, columns) / 4) ** 2
    small = prepare_slice(np.zeros(disc.shape), disc * 2, (-1, 1), side, 'soft')['tumor']
    back = restore_slice(small.astype(np.float32) / 255, rows, columns)
    assert back.shape == disc.shape
    assert back.sum() == pytest.approx(disc.sum(), rel=0.02)
    for axis in (y, x):
        assert (back * axis).sum() / back.sum() == pytest.approx(
            axis[disc].mean(), abs=0.05 * longest_pixel(disc, side)
        )
    assert ((back >= 0.5) & disc).sum() / ((back >= 0.5) | disc).sum() > 0.8


def longest_pixel(disc, side):
    return max(1, max(disc.shape) / side)
