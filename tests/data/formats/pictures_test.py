"""Slices as pictures: values of the window, masks of liver and lesion, and what is no such picture."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from liver_jax.data.formats.pictures import NOTES, read_images, read_labels
from liver_jax.data.formats.raster import Raster
from liver_jax.errors import UserError

ROWS, COLUMNS = 6, 4
WINDOW = (-100.0, 155.0)  # one HU per grey


@pytest.fixture
def pictures(tmp_path: Path) -> tuple[list[Path], list[Path]]:
    """Slices 9, 10 and 11 of a volume; as text, 10 comes before 9."""
    rng = np.random.default_rng(0)
    images, labels = [], []
    for k in (9, 10, 11):
        images.append(save(tmp_path / f'volume-3_{k}.png', rng.integers(0, 256, (ROWS, COLUMNS))))
        for organ, ones in (('liver', np.s_[1:4, 1:3]), ('lesion', np.s_[k - 9, 2:])):
            mask = np.zeros((ROWS, COLUMNS), np.uint8)
            mask[ones] = 255 if k < 11 else 1
            labels.append(save(tmp_path / f'segmentation-3_{organ}mask_{k}.png', mask))
    return sorted(images), sorted(labels)


def save(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path)
    return path


def array(raster: Raster) -> np.ndarray:
    """[slice, row, column]"""
    volume = np.stack(list(raster.planes()), axis=-1)
    assert volume.shape == raster.shape
    return volume.transpose(2, 1, 0)


def check_refused(files: list[Path], said: str) -> None:
    with pytest.raises(UserError, match=said) as refusal:
        array(read_labels(files) if 'mask' in files[0].name else read_images(files, WINDOW))
    assert '\n' not in str(refusal.value)


def test_grey_is_spread_over_the_window_slice_by_slice(pictures):
    images, _ = pictures
    raster = read_images(images, WINDOW)
    stored = np.stack([np.asarray(Image.open(path)) for path in sorted(images, key=lambda path: len(path.name))])
    np.testing.assert_allclose(array(raster)[[0, 1, 2]], stored[[0, 1, 2]] - 100.0, atol=1e-4)
    np.testing.assert_allclose(array(read_images(images, (0.0, 510.0))), 2.0 * stored, atol=1e-4)
    assert raster.notes == NOTES


def test_row_0_is_in_front_and_column_0_on_the_right(pictures):
    raster = read_images(pictures[0], WINDOW)
    np.testing.assert_array_equal(raster.affine, np.diag([-1, -1, 1, 1]))
    assert raster.shape == (COLUMNS, ROWS, 3)


def test_masks_become_labels_and_the_lesion_wins(pictures):
    labels = array(read_labels(pictures[1]))
    expected = np.zeros((3, ROWS, COLUMNS), np.uint8)
    expected[:, 1:4, 1:3] = 1
    for k in range(3):
        expected[k, k, 2:] = 2
    np.testing.assert_array_equal(labels, expected)
    assert labels.dtype == np.uint8


@pytest.mark.parametrize('mode', ['RGB', 'RGBA', 'P', '1'])
def test_grey_in_other_clothes_does(pictures, mode):
    _, labels = pictures
    before = array(read_labels(labels))
    for path in labels:
        Image.fromarray(np.where(np.asarray(Image.open(path)), 255, 0).astype(np.uint8)).convert(mode).save(path)
    np.testing.assert_array_equal(array(read_labels(labels)), before)


def test_what_is_no_grey_picture_of_8_bits_is_refused(pictures):
    images, labels = pictures
    Image.fromarray(np.zeros((ROWS, COLUMNS), np.uint16)).save(images[1])
    check_refused(images, r'volume-3_11\.png: pixels of type I;16; expected 8 bits of grey')
    colours = np.zeros((ROWS, COLUMNS, 3), np.uint8)
    colours[2, 2] = 255, 0, 0
    save(images[1], colours)
    check_refused(images, r'volume-3_11\.png: coloured; expected grey')
    save(labels[0], np.arange(24).reshape(ROWS, COLUMNS))
    check_refused(labels, r'lesionmask_10\.png: values 0, 1, 2, 3, 4, …; expected a mask of 0 and 255')
    save(labels[0], np.full((ROWS, COLUMNS), 128))
    check_refused(labels, r'lesionmask_10\.png: values 128; expected a mask')


def test_sizes_must_be_those_of_the_first_slice_and_bearable(pictures):
    images, _ = pictures
    save(images[1], np.zeros((ROWS, COLUMNS + 1)))
    check_refused(images, r'volume-3_11\.png: 5x6 pixels; expected 4x6, as the first slice has')
    for path in images:
        Image.new('1', (9_500, 9_500)).save(path)
    check_refused(images, '9500x9500 pixels; expected at most 4096 a side')


@pytest.mark.parametrize('content', [b'', b'<html>404</html>', None], ids=['empty', 'a page', 'truncated'])
def test_what_cannot_be_read_is_named(pictures, content):
    images, _ = pictures
    path = images[-1]
    save(path, np.random.default_rng(0).integers(0, 256, (ROWS, COLUMNS)))
    path.write_bytes(path.read_bytes()[:60] if content is None else content)
    check_refused(images, rf'{path.name}: not a readable PNG')
