"""Image and mask move together; identity changes nothing; known transforms against scipy and by hand."""

import dataclasses

import jax
import numpy as np
import pytest
from scipy import ndimage

from configs import default
from liver_jax.config import config_from
from liver_jax.data import augment as augmentation
from liver_jax.data.draws import draw, identity_draws

CONFIG = config_from(default.get_config().to_dict()).augment
TRANSFORMS = ('flip', 'rotate', 'scale', 'shift', 'elastic', 'brightness', 'contrast', 'gamma', 'noise')
augment = jax.jit(augmentation.augment_batch)
to_unit = jax.jit(augmentation.to_unit)  # compiled like the augmentation, so that both round alike


def only(*names):
    """The default with these transforms certain and the others off."""
    return dataclasses.replace(CONFIG, **{name: float(name in names) for name in TRANSFORMS})


@pytest.fixture(scope='module')
def images():
    smooth = ndimage.gaussian_filter(np.random.default_rng(0).random((4, 32, 32)), (0, 2, 2))
    return np.rint(255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)


def with_draws(images, **changes):
    draws = identity_draws(len(images), CONFIG.elastic_grid)
    for name, value in changes.items():
        draws[name] = np.broadcast_to(np.asarray(value, draws[name].dtype), draws[name].shape)
    return augment(images, images, draws)


def test_identity_draws_change_nothing(images):
    result = with_draws(images)
    np.testing.assert_array_equal(result['image'], to_unit(images))
    np.testing.assert_array_equal(result['mask'], to_unit(images))


def test_all_transforms_off_draws_the_identity(images):
    draws = draw(only(), np.random.default_rng(0), 4)
    np.testing.assert_array_equal(augment(images, images, draws)['image'], to_unit(images))


@pytest.mark.parametrize('name', ['flip', 'rotate', 'scale', 'shift', 'elastic'])
def test_geometry_moves_image_and_mask_alike(images, name):
    draws = draw(only(name), np.random.default_rng(1), 4)
    result = augment(images, images, draws)
    np.testing.assert_allclose(result['image'], result['mask'], atol=1e-6)
    assert np.abs(result['image'] - to_unit(images)).max() > 0.05


@pytest.mark.parametrize('name', ['brightness', 'contrast', 'gamma', 'noise'])
def test_intensity_leaves_the_mask_alone(images, name):
    result = augment(images, images, draw(only(name), np.random.default_rng(1), 4))
    np.testing.assert_array_equal(result['mask'], to_unit(images))
    assert np.abs(result['image'] - to_unit(images)).max() > 0.005
    assert 0 <= result['image'].min() <= result['image'].max() <= 1


def test_flip_mirrors_columns(images):
    np.testing.assert_allclose(with_draws(images, flip=1)['mask'], to_unit(images)[:, :, ::-1], atol=1e-6)


def test_shift_moves_by_parts_of_the_side(images):
    moved = with_draws(images, shift=(4 / 32, -2 / 32))['mask']
    np.testing.assert_allclose(moved[:, 4:, :-2], to_unit(images)[:, :-4, 2:], atol=1e-5)
    assert np.asarray(moved)[:, :4].max() == 0


@pytest.mark.parametrize('degrees', [-30, 10, 90])
def test_rotation_against_scipy(images, degrees):
    turned = with_draws(images, angle=np.deg2rad(degrees))['mask'][..., 0]
    unit = np.asarray(to_unit(images))[..., 0]
    expected = ndimage.rotate(unit, degrees, axes=(2, 1), reshape=False, order=1, prefilter=False)
    rows, columns = np.mgrid[:32, :32] - 15.5
    inner = rows**2 + columns**2 < 14**2
    np.testing.assert_allclose(np.asarray(turned)[:, inner], expected[:, inner], atol=1e-4)


def test_scale_above_one_magnifies():
    disc = (np.hypot(*(np.mgrid[:64, :64] - 31.5)) < 10).astype(np.uint8)[None] * 255
    area = float(with_draws(disc, scale=1.5)['mask'].sum())
    assert area == pytest.approx(1.5**2 * disc.sum() / 255, rel=0.02)


def test_contrast_brightness_and_gamma_by_hand():
    image = np.array([[[51, 102], [153, 204]]], np.uint8)  # .2 .4 .6 .8, mean .5
    np.testing.assert_allclose(
        with_draws(image, contrast=0.5, brightness=0.1)['image'].ravel(), [0.45, 0.55, 0.65, 0.75], atol=1e-6
    )
    np.testing.assert_allclose(with_draws(image, gamma=2)['image'].ravel(), [0.04, 0.16, 0.36, 0.64], atol=1e-6)


def test_noise_has_the_drawn_deviation_and_depends_on_its_seed():
    grey = np.full((2, 64, 64), 128, np.uint8)
    first = with_draws(grey, noise_std=0.05, noise_seed=(1, 2))['image']
    assert float((first[0] - 128 / 255).std()) == pytest.approx(0.05, rel=0.05)
    assert np.abs(first[0] - first[1]).max() > 0.05
    np.testing.assert_array_equal(first, with_draws(grey, noise_std=0.05, noise_seed=(1, 2))['image'])


def test_draws_follow_probability_and_range():
    draws = draw(dataclasses.replace(CONFIG, rotate=0.25), np.random.default_rng(0), 4000)
    turned = draws['angle'] != 0
    assert turned.mean() == pytest.approx(0.25, abs=0.03)
    assert np.rad2deg(np.abs(draws['angle'])).max() == pytest.approx(CONFIG.rotate_degrees, rel=0.01)
    low, high = CONFIG.scale_range
    assert low <= draws['scale'].min() < draws['scale'].max() <= high
    assert draws.pop('noise_seed').dtype == np.uint32
    assert {values.dtype for values in draws.values()} == {np.dtype(np.float32)}
