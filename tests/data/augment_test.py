"""Image and mask move together; identity changes nothing; known transforms against scipy and by hand."""

import dataclasses

import jax
import numpy as np
import pytest
from scipy import ndimage

from configs import default
from liver_jax.config import AUGMENTATIONS, config_from
from liver_jax.data import augment as augmentation
from liver_jax.data.draws import blur_kernel, draw, identity_draws

CONFIG = config_from(default.get_config().to_dict()).augment
NNUNET = config_from(default.get_config('nnunet').to_dict()).augment
PRESETS = pytest.mark.parametrize('preset', [CONFIG, NNUNET], ids=['light', 'nnunet'])
GEOMETRY = ('flip', 'flip_rows', 'rotate', 'scale', 'shift', 'elastic')
augment = jax.jit(augmentation.augment_batch)
to_unit = jax.jit(augmentation.to_unit)  # compiled like the augmentation, so that both round alike


def only(*names, preset=CONFIG):
    """The preset with these transforms certain and the others off."""
    return dataclasses.replace(preset, **{name: float(name in names) for name in AUGMENTATIONS})


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


@PRESETS
def test_all_transforms_off_draws_the_identity(images, preset):
    draws = draw(only(preset=preset), np.random.default_rng(0), 4)
    for name, values in identity_draws(4).items():
        if name not in ('noise_seed', 'keeps_stats'):  # which say nothing where there is no noise and no gamma
            np.testing.assert_array_equal(draws[name], values, err_msg=name)
    np.testing.assert_array_equal(augment(images, images, draws)['image'], to_unit(images))
    np.testing.assert_array_equal(augment(images, images, draws)['mask'], to_unit(images))


@pytest.mark.parametrize('side', [24, 31, 37])
def test_identity_holds_for_sides_that_no_power_of_two_divides(side):
    odd = np.random.default_rng(side).integers(0, 256, (1, side, side + 5), np.uint8)
    np.testing.assert_array_equal(with_draws(odd)['image'], to_unit(odd))


@pytest.mark.parametrize('name', GEOMETRY)
def test_geometry_moves_image_and_mask_alike(images, name):
    draws = draw(only(name), np.random.default_rng(1), 4)
    result = augment(images, images, draws)
    np.testing.assert_allclose(result['image'], result['mask'], atol=1e-6)
    assert np.abs(result['image'] - to_unit(images)).max() > 0.05


@pytest.mark.parametrize('name', [name for name in AUGMENTATIONS if name not in GEOMETRY])
def test_intensity_leaves_the_mask_alone(images, name):
    result = augment(images, images, draw(only(name), np.random.default_rng(1), 4))
    np.testing.assert_array_equal(result['mask'], to_unit(images))
    assert np.abs(result['image'] - to_unit(images)).max() > 0.005
    assert 0 <= result['image'].min() <= result['image'].max() <= 1


def test_flip_mirrors_columns(images):
    np.testing.assert_allclose(with_draws(images, flip=1)['mask'], to_unit(images)[:, :, ::-1], atol=1e-6)


def test_flip_rows_mirrors_rows(images):
    np.testing.assert_allclose(with_draws(images, flip_rows=1)['mask'], to_unit(images)[:, ::-1], atol=1e-6)
    both = with_draws(images, flip=1, flip_rows=1)['image']
    np.testing.assert_allclose(both, with_draws(images, angle=np.pi)['image'], atol=1e-5)


def test_shift_moves_by_parts_of_the_side(images):
    moved = with_draws(images, shift=(4 / 32, -2 / 32))['mask']
    np.testing.assert_allclose(moved[:, 4:, :-2], to_unit(images)[:, :-4, 2:], atol=1e-5)
    assert np.asarray(moved)[:, :4].max() == 0


@pytest.mark.parametrize('degrees', [-135, -30, 10, 90, 180])
def test_rotation_against_scipy(images, degrees):
    turned = with_draws(images, angle=np.deg2rad(degrees))['mask'][..., 0]
    unit = np.asarray(to_unit(images))[..., 0]
    expected = ndimage.rotate(unit, degrees, axes=(2, 1), reshape=False, order=1, prefilter=False)
    rows, columns = np.mgrid[:32, :32] - 15.5
    inner = rows**2 + columns**2 < 14**2
    np.testing.assert_allclose(np.asarray(turned)[:, inner], expected[:, inner], atol=1e-4)


@pytest.mark.parametrize('degrees', [-170, -90, -33, 7, 45, 120])
@pytest.mark.parametrize('radius', [3, 6, 12])
def test_rotation_keeps_the_area_of_a_lesion(degrees, radius):
    lesion = lesions(radius, places=[(0, 0), (17, -9), (-30, 24)])
    before = to_unit(lesion).sum(axis=(1, 2, 3))
    turned = with_draws(lesion, angle=np.deg2rad(degrees))['mask']
    np.testing.assert_allclose(turned.sum(axis=(1, 2, 3)), before, rtol=0.02)


def lesions(radius, places):
    """A soft-edged disc per place off the middle of 128x128, as preparation makes them."""
    rows, columns = np.mgrid[:128, :128] - 63.5
    distances = np.stack([np.hypot(rows - row, columns - column) for row, column in places])
    return np.rint(255 * np.clip(radius + 0.5 - distances, 0, 1)).astype(np.uint8)


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


@pytest.mark.parametrize('sigmas', [(0.5, 0.5), (1.0, 1.0), (0.6, 0.9)])
def test_blur_against_scipy(images, sigmas):
    unit = np.asarray(to_unit(images))[..., 0]
    expected = ndimage.gaussian_filter(unit, (0, *sigmas), mode='mirror', radius=(0, 3, 3))
    blurred = with_draws(images, blur=blur_kernel(np.float32(sigmas), 3))['image'][..., 0]
    np.testing.assert_allclose(blurred, expected, atol=1e-5)  # up to the borders
    assert np.abs(expected - unit).max() > 0.01


def test_blur_by_hand():
    point = np.zeros((1, 16, 16), np.uint8)
    point[0, 8, 8] = 255
    side = np.exp(-0.5)  # of a Gaussian with sigma 1, cut after one pixel
    weights = np.array([side, 1, side]) / (1 + 2 * side)
    draws = identity_draws(1, blur_radius=1) | {'blur': blur_kernel(np.ones((1, 2), np.float32), 1)}
    blurred = augment(point, point, draws)['image'][0, 7:10, 7:10, 0]
    np.testing.assert_allclose(blurred, np.outer(weights, weights), atol=1e-6)


@pytest.mark.parametrize('zoom', [0.5, 0.6, 0.75, 0.99])
def test_coarsening_is_nearest_down_and_linear_up(images, zoom):
    unit = np.asarray(to_unit(images))[..., 0]
    coarse = round(32 * zoom)
    shown = np.floor((np.arange(coarse) + 0.5) * 32 / coarse).astype(int)
    places = np.clip((np.arange(32) + 0.5) * coarse / 32 - 0.5, 0, coarse - 1)
    rows, columns = np.meshgrid(places, places, indexing='ij')
    expected = [ndimage.map_coordinates(each[np.ix_(shown, shown)], (rows, columns), order=1) for each in unit]
    np.testing.assert_allclose(with_draws(images, zoom=zoom)['image'][..., 0], expected, atol=1e-5)


def test_coarsening_by_hand():
    # Half of 16 pixels: those in the odd places are kept, and lie between each two pixels.
    line = np.tile(np.arange(16, dtype=np.uint8) * 10, (16, 1))
    expected = np.clip(np.arange(16) * 10 + 5, 10, 150)
    coarse = with_draws(line[None], zoom=0.5)['image'][0, :, :, 0] * 255
    np.testing.assert_allclose(coarse, np.tile(expected, (16, 1)), atol=1e-3)


def test_factor_leaves_its_center_alone():
    image = np.array([[[51, 102], [153, 204]]], np.uint8)  # .2 .4 .6 .8
    center = 0.6
    changed = with_draws(image, factor=0.5, brightness=center * 0.5)['image']
    np.testing.assert_allclose(changed.ravel(), [0.4, 0.5, 0.6, 0.7], atol=1e-6)
    config = dataclasses.replace(only('factor'), factor_center=center)
    draws = draw(config, np.random.default_rng(0), 50)
    np.testing.assert_allclose(center * draws['factor'] + draws['brightness'], center, atol=1e-6)


def test_gamma_inverted_by_hand():
    image = np.array([[[51, 102], [153, 204]]], np.uint8)  # .2 .4 .6 .8
    inverted = with_draws(image, gamma_inverted=2)['image'].ravel()
    np.testing.assert_allclose(inverted, [1 - 0.64, 1 - 0.36, 1 - 0.16, 1 - 0.04], atol=1e-6)
    # It is applied before the other gamma.
    np.testing.assert_allclose(
        with_draws(image, gamma_inverted=2, gamma=0.5)['image'].ravel(), inverted**0.5, atol=1e-6
    )


@pytest.mark.parametrize('name', ['gamma', 'gamma_inverted'])
@pytest.mark.parametrize('exponent', [0.7, 1.5])
def test_gamma_keeps_mean_and_deviation_on_request(images, name, exponent):
    middling = (60 + images // 3).astype(np.uint8)  # far enough from 0 and 1 that nothing is cut
    unit = np.asarray(to_unit(middling))
    kept = np.asarray(with_draws(middling, **{name: exponent}, keeps_stats=1)['image'])
    np.testing.assert_allclose(kept.mean(axis=(1, 2)), unit.mean(axis=(1, 2)), atol=1e-4)
    np.testing.assert_allclose(kept.std(axis=(1, 2)), unit.std(axis=(1, 2)), atol=1e-4)
    free = np.asarray(with_draws(middling, **{name: exponent})['image'])
    assert np.abs(free.mean(axis=(1, 2)) - unit.mean(axis=(1, 2))).min() > 0.01
    assert np.abs(kept - unit).max() > 0.005


def test_gamma_of_black_and_of_one_grey_is_finite():
    flat = np.stack([np.zeros((16, 16)), np.full((16, 16), 255), np.full((16, 16), 128)]).astype(np.uint8)
    for name in ('gamma', 'gamma_inverted'):
        np.testing.assert_allclose(with_draws(flat, **{name: 0.7}, keeps_stats=1)['image'], to_unit(flat), atol=1e-6)


@PRESETS
@pytest.mark.parametrize('seed', range(5))
def test_masks_and_images_stay_between_zero_and_one(images, preset, seed):
    everything = only(*AUGMENTATIONS, preset=preset)
    hard = np.where(images > 127, 255, 0).astype(np.uint8)
    for config in (preset, everything):
        result = augment(images, hard, draw(config, np.random.default_rng(seed), len(images)))
        for name in ('image', 'mask'):
            assert np.isfinite(result[name]).all()
            assert 0 <= result[name].min() <= result[name].max() <= 1


# Probability, drawn values, their identity, lower and upper end.
DRAWN = {
    'flip': ('flip', 0, lambda c: (1, 1)),
    'flip_rows': ('flip_rows', 0, lambda c: (1, 1)),
    'rotate': ('angle', 0, lambda c: np.deg2rad((-c.rotate_degrees, c.rotate_degrees))),
    'scale': ('scale', 1, lambda c: c.scale_range),
    'shift': ('shift', 0, lambda c: (-c.shift_fraction, c.shift_fraction)),
    'noise': ('noise_std', 0, lambda c: (0, c.noise_std)),
    'brightness': ('brightness', 0, lambda c: (-c.brightness_delta, c.brightness_delta)),
    'factor': ('factor', 1, lambda c: c.factor_range),
    'contrast': ('contrast', 1, lambda c: c.contrast_range),
    'coarsen': ('zoom', 1, lambda c: c.coarsen_range),
    'gamma_inverted': ('gamma_inverted', 1, lambda c: c.gamma_range),
    'gamma': ('gamma', 1, lambda c: c.gamma_range),
}


@PRESETS
@pytest.mark.parametrize('name', DRAWN)
def test_draws_follow_probability_and_range(name, preset):
    key, identity, ends = DRAWN[name]
    preset = dataclasses.replace(preset, **{'factor': 0.0} if name == 'brightness' else {})  # which shifts it
    values = draw(preset, np.random.default_rng(0), 20000)[key].reshape(20000, -1)
    chosen, (low, high) = (values != identity).all(axis=1), ends(preset)
    assert chosen.mean() == pytest.approx(getattr(preset, name), abs=0.015)
    np.testing.assert_array_equal(values[~chosen], identity)
    if chosen.any():
        tenth = (high - low) / 10
        assert low - 1e-6 <= values[chosen].min() <= low + tenth
        assert high - tenth <= values[chosen].max() <= high + 1e-6
        middle = np.sqrt(low * high) if identity == 1 and name != 'coarsen' else (low + high) / 2
        assert np.median(values[chosen]) == pytest.approx(middle, abs=tenth)


@PRESETS
def test_elastic_and_blur_follow_probability_and_range(preset):
    preset = dataclasses.replace(preset, blur=0.25)
    draws = draw(preset, np.random.default_rng(0), 20000)
    bent = draws['elastic'].any(axis=(1, 2, 3))
    assert bent.mean() == pytest.approx(preset.elastic, abs=0.015)
    assert draws['elastic'][bent].std() == pytest.approx(preset.elastic_fraction, rel=0.02)
    kernels = draws['blur']
    np.testing.assert_allclose(kernels[..., 0] + 2 * kernels[..., 1:].sum(axis=-1), 1, atol=1e-6)
    blurred = kernels[..., 1].all(axis=1)
    assert blurred.mean() == pytest.approx(0.25, abs=0.015)
    sigmas = np.sqrt(-0.5 / np.log(kernels[blurred, :, 1] / kernels[blurred, :, 0]))
    low, high = preset.blur_range
    assert low - 1e-5 <= sigmas.min() < low + 0.01 < high - 0.01 < sigmas.max() <= high + 1e-5
    assert np.abs(np.corrcoef(sigmas.T)[0, 1]) < 0.05  # rows and columns apart


def test_draws_of_one_slice_are_independent():
    everything = dataclasses.replace(CONFIG, **dict.fromkeys(AUGMENTATIONS, 0.5))
    draws = draw(everything, np.random.default_rng(0), 20000)
    chosen = [
        draws[key].reshape(20000, -1)[:, 0] != identity for key, identity, _ in DRAWN.values() if key != 'brightness'
    ]
    chosen += [draws['elastic'].any(axis=(1, 2, 3)), draws['blur'][:, 0, 1] > 0]
    correlation = np.corrcoef(chosen) - np.eye(len(chosen))
    assert np.abs(correlation).max() < 0.04


@PRESETS
def test_keys_shapes_and_types_depend_on_no_probability(preset):
    some, none = (draw(config, np.random.default_rng(0), 8) for config in (preset, only(preset=preset)))
    assert {name: values.shape for name, values in some.items()} == {name: v.shape for name, v in none.items()}
    assert set(some) == set(identity_draws(8))
    assert some.pop('noise_seed').dtype == np.uint32
    assert {values.dtype for values in some.values()} == {np.dtype(np.float32)}
