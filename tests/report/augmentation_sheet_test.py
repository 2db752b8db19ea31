"""The contact sheet: its rows are the config's transforms, its cells what training would see, its text legible."""

import dataclasses
import io
import itertools

import matplotlib.image
import numpy as np
import pytest
from scipy import ndimage

from configs import default
from liver_jax.config import AUGMENTATIONS, config_from
from liver_jax.data.draws import blur_kernel, blur_sigmas
from liver_jax.report.augmentation_sheet import DRAWS, NAMES, draw_augmentation_sheet, make_augmentation_figure
from liver_jax.report.figures import DOTS_PER_INCH

LIGHT, NNUNET = (config_from(default.get_config(name).to_dict()).augment for name in ('light', 'nnunet'))


def only(*names):
    return dataclasses.replace(NNUNET, **{name: float(name in names) for name in AUGMENTATIONS})


@pytest.fixture(scope='module')
def slices():
    """Three slices of 32x32 and a disc as mask of each."""
    smooth = ndimage.gaussian_filter(np.random.default_rng(0).random((3, 32, 32)), (0, 2, 2))
    images = np.rint(255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)
    disc = np.hypot(*(np.mgrid[:32, :32] - 12)) < 5
    return images, np.repeat(255 * disc[None].astype(np.uint8), 3, axis=0)


def cells(figure):
    """The pictures shown, row by row."""
    shown = [np.asarray(cell.images[0].get_array()) for cell in figure.axes]
    return [shown[start : start + 1 + DRAWS] for start in range(0, len(shown), 1 + DRAWS)]


def labels(figure):
    """The names of the rows, from the top."""
    return [text.get_text() for text in figure.texts if text.get_fontweight() == 'bold'][1:]


def test_every_transform_has_a_name():
    assert tuple(NAMES) == AUGMENTATIONS


@pytest.mark.parametrize('config', [LIGHT, NNUNET], ids=['light', 'nnunet'])
def test_rows_are_the_transforms_of_the_config_and_all_together(slices, config):
    figure = make_augmentation_figure(*slices, config, seed=0)
    expected = [NAMES[name] for name in AUGMENTATIONS if getattr(config, name) > 0]
    assert labels(figure) == [*expected, 'all together']
    for number, row in enumerate(cells(figure)):
        np.testing.assert_array_equal(row[0], slices[0][number % 3] / 255)
        changed = [np.abs(each - row[0]).max() > 1e-3 for each in row[1:]]
        assert all(changed) or number == len(expected)  # all together: each with its probability, perhaps none


def test_cells_show_what_the_captions_say(slices):
    figure = make_augmentation_figure(*slices, only('flip', 'factor', 'coarsen'), seed=3)
    mirror, factor, coarse = cells(figure)[:3]
    for each in mirror[1:]:
        np.testing.assert_allclose(each, mirror[0][:, ::-1], atol=1e-6)
    for cell, each in zip(figure.axes[1 + DRAWS + 1 :], factor[1:], strict=False):
        drawn = float(cell.get_title().removeprefix('× '))
        expected = np.clip(0.65 + drawn * (factor[0] - 0.65), 0, 1)
        np.testing.assert_allclose(each, expected, atol=0.005)  # the caption has two decimals
    for cell, each in zip(figure.axes[2 * (1 + DRAWS) + 1 :], coarse[1:], strict=False):
        side = 32 * float(cell.get_title().removeprefix('side × '))
        assert 16 <= side <= 32
        assert (np.abs(each - coarse[0]).max() > 1e-3) == (side < 31.5)


def test_masks_are_outlined_where_they_were_moved_to(slices):
    figure = make_augmentation_figure(*slices, only('flip_rows'), seed=0)
    original, moved = (figure.axes[column].collections[0].get_paths()[0].get_extents() for column in (0, 1))
    assert (original.x0, original.x1) == pytest.approx((moved.x0, moved.x1), abs=0.3)
    assert (31 - original.y1, 31 - original.y0) == pytest.approx((moved.y0, moved.y1), abs=0.3)


def test_a_slice_without_lesion_is_shown_without_outline(slices):
    images, masks = slices
    figure = make_augmentation_figure(images, np.zeros_like(masks), only('rotate'), seed=0)
    assert not any(cell.collections for cell in figure.axes)


def test_a_transform_keeps_its_draws_when_others_are_turned_off(slices):
    alone = make_augmentation_figure(*slices, only('rotate'), seed=0)
    among = make_augmentation_figure(*slices, only('rotate', 'noise', 'scale'), seed=0)
    np.testing.assert_array_equal(cells(alone)[0], cells(among)[0])
    other = make_augmentation_figure(*slices, only('rotate'), seed=1)
    assert np.abs(np.array(cells(other)[0][1:]) - cells(alone)[0][1:]).max() > 0.05


def test_nothing_turned_on_leaves_the_slice_alone(slices):
    figure = make_augmentation_figure(*slices, only(), seed=0)
    assert labels(figure) == ['all together']
    for each in cells(figure)[0]:
        np.testing.assert_allclose(each, slices[0][0] / 255, atol=1e-6)


def test_no_text_is_clipped_or_overlaps(slices):
    everything = dataclasses.replace(NNUNET, **dict.fromkeys(AUGMENTATIONS, 0.123), shift_fraction=0.2)
    figure = make_augmentation_figure(*slices, everything, seed=0)
    figure.set_dpi(DOTS_PER_INCH)
    figure.savefig(io.BytesIO(), format='png', dpi=DOTS_PER_INCH)
    texts = [*figure.texts, *(cell.title for cell in figure.axes if cell.get_title())]
    boxes = [artist.get_window_extent() for artist in (*texts, *figure.axes)]
    for box in boxes:
        assert min(box.x0, box.y0) >= 0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1
    for one, other in itertools.combinations(boxes, 2):
        assert not one.overlaps(other)


def test_png_is_whole_and_leaves_nothing_behind(slices, tmp_path):
    path = tmp_path / 'new' / 'sheet.png'
    draw_augmentation_sheet(path, *slices, LIGHT, seed=0)
    assert [each.name for each in path.parent.iterdir()] == ['sheet.png']
    assert matplotlib.image.imread(path).ndim == 3
    first = path.read_bytes()
    draw_augmentation_sheet(path, *slices, LIGHT, seed=0)
    assert path.read_bytes() == first


def test_slices_that_do_not_fit_their_masks_are_refused(slices):
    images, masks = slices
    for wrong in ((images[:0], masks[:0]), (images, masks[:2]), (images[0], masks[0])):
        with pytest.raises(ValueError, match='expected the same'):
            make_augmentation_figure(*wrong, LIGHT, seed=0)


def test_sigmas_are_read_back_from_kernels():
    sigmas = np.float32([[0.5, 1.0], [0.7, 0.8]])
    np.testing.assert_allclose(blur_sigmas(blur_kernel(sigmas, 3)), sigmas, atol=1e-4)
