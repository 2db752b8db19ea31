"""What each augmentation does to real slices: a row per transform, alone and certain, and one as in training."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from liver_jax.config import AUGMENTATIONS, AugmentConfig
from liver_jax.data.augment import augment_batch
from liver_jax.data.draws import Draws, blur_sigmas, draw
from liver_jax.report.figures import TRUTH_FILL, draw_outline, save_png

DRAWS = 4  # per row, beside the original
# Inches.
CELL = 1.5
GAP = 0.06
MARGIN = 0.15
LABEL = 1.85
# Above a row's cells: what was drawn.
ROW_HEAD = 0.22
HEAD = 0.6

NAMES = {
    'flip': 'left-right mirror',
    'flip_rows': 'upside-down mirror',
    'rotate': 'rotation',
    'scale': 'scaling',
    'shift': 'shift',
    'elastic': 'elastic deformation',
    'noise': 'Gaussian noise',
    'blur': 'Gaussian blur',
    'brightness': 'brightness, added',
    'factor': 'brightness, multiplied',
    'contrast': 'contrast',
    'coarsen': 'low resolution',
    'gamma_inverted': 'gamma, inverted',
    'gamma': 'gamma',
}


@dataclasses.dataclass(frozen=True, eq=False)
class _Row:
    """A label of two lines, the slice it is shown on, its draws with a caption each."""

    name: str
    detail: str
    slice_index: int
    draws: Draws
    captions: list[str]


def draw_augmentation_sheet(
    path: Path, images: np.ndarray, masks: np.ndarray, config: AugmentConfig, seed: int
) -> None:
    """Writes the contact sheet to `path` as one PNG, atomically.

    Args:
        path: The PNG; its folder is made if need be.
        images: uint8 [N, H, W] as in the slice store, at least one; the rows of the sheet take them in turn.
        masks: uint8 [N, H, W]; outlined.
        config: What is shown: each transform of a probability above zero.
        seed: The same seed gives the same sheet; of a transform also when others are turned on or off.
    """
    save_png(make_augmentation_figure(images, masks, config, seed), path)


def make_augmentation_figure(images: np.ndarray, masks: np.ndarray, config: AugmentConfig, seed: int) -> Figure:
    """Builds the figure of `draw_augmentation_sheet`; its axes are the cells, row by row, the original first."""
    if images.ndim != 3 or not len(images) or images.shape != masks.shape:
        raise ValueError(f'images are {images.shape}, masks {masks.shape}; expected the same [N, H, W], N at least 1')
    rows = _rows(config, seed, len(images))
    columns = 1 + DRAWS
    pitch = ROW_HEAD + CELL * images.shape[1] / images.shape[2]
    width = 2 * MARGIN + LABEL + columns * (CELL + GAP) - GAP
    height = HEAD + len(rows) * pitch + MARGIN
    figure = Figure(figsize=(width, height), facecolor='white')
    top = 1 - MARGIN / height
    figure.text(MARGIN / width, top, 'Augmentation', fontsize=13, fontweight='bold', va='top')
    explained = 'Each transform alone and certain, with what was drawn of it; then all as in training.'
    figure.text(MARGIN / width, top - 0.27 / height, explained, fontsize=9, va='top')
    augmented, outlines = _augmented(images, masks, rows)
    for number, row in enumerate(rows):
        bottom = height - HEAD - (number + 1) * pitch
        middle = (bottom + (pitch - ROW_HEAD) / 2) / height
        figure.text(MARGIN / width, middle, row.name, fontsize=10, fontweight='bold', va='bottom')
        figure.text(MARGIN / width, middle - 0.05 / height, row.detail, fontsize=8, va='top', linespacing=1.4)
        for column in range(columns):
            left = MARGIN + LABEL + column * (CELL + GAP)
            size = (CELL / width, (pitch - ROW_HEAD) / height)
            cell = figure.add_axes((left / width, bottom / height, *size))
            if column:
                _draw_cell(cell, augmented[number, column - 1], outlines[number, column - 1], row.captions[column - 1])
            else:
                _draw_cell(cell, images[row.slice_index] / 255, masks[row.slice_index] / 255, 'original')
    return figure


def _rows(config: AugmentConfig, seed: int, slices: int) -> list[_Row]:
    shown = [name for name in AUGMENTATIONS if getattr(config, name) > 0]
    rows = []
    for number, name in enumerate(shown):
        chances: dict[str, Any] = {each: float(each == name) for each in AUGMENTATIONS}
        alone = dataclasses.replace(config, **chances)
        draws = draw(alone, np.random.default_rng([seed, AUGMENTATIONS.index(name)]), DRAWS)
        detail = f'augment.{name}\nprobability {getattr(config, name):g}'
        rows.append(_Row(NAMES[name], detail, number % slices, draws, _captions(name, draws)))
    draws = draw(config, np.random.default_rng([seed, len(AUGMENTATIONS)]), DRAWS)
    together = 'each with its\nprobability'
    return [*rows, _Row('all together', together, len(shown) % slices, draws, [''] * DRAWS)]


def _captions(name: str, draws: Draws) -> list[str]:
    """What was drawn of one transform, in words a reader of the config knows."""
    if name == 'rotate':
        return [f'{angle:+.0f}°' for angle in np.rad2deg(draws['angle'])]
    if name == 'shift':
        return [f'{row:+.1f} % down, {column:+.1f} % right' for row, column in 100 * draws['shift']]
    if name == 'elastic':
        return [f'up to {100 * size:.1f} % of the side' for size in np.abs(draws['elastic']).max(axis=(1, 2, 3))]
    if name == 'noise':
        return [f'deviation {deviation:.3f}' for deviation in draws['noise_std']]
    if name == 'blur':
        return [f'sigma {rows:.2f}, {columns:.2f} px' for rows, columns in blur_sigmas(draws['blur'])]
    if name == 'brightness':
        return [f'{constant:+.3f}' for constant in draws['brightness']]
    if name in ('scale', 'factor', 'contrast'):
        return [f'× {factor:.2f}' for factor in draws[name]]
    if name == 'coarsen':
        return [f'side × {zoom:.2f}' for zoom in draws['zoom']]
    if name in ('gamma', 'gamma_inverted'):
        return [f'exponent {exponent:.2f}' for exponent in draws[name]]
    return ['mirrored'] * DRAWS


def _augmented(images: np.ndarray, masks: np.ndarray, rows: list[_Row]) -> tuple[np.ndarray, np.ndarray]:
    """Images and masks float32 [rows, draws, H, W], in one call of what training runs."""
    slices = np.repeat([row.slice_index for row in rows], DRAWS)
    draws = {name: np.concatenate([row.draws[name] for row in rows]) for name in rows[0].draws}
    result = jax.device_get(jax.jit(augment_batch)(images[slices], masks[slices], draws))
    image, mask = (result[name].reshape(len(rows), DRAWS, *images.shape[1:]) for name in ('image', 'mask'))
    return image, mask


def _draw_cell(cell: Axes, image: np.ndarray, mask: np.ndarray, caption: str) -> None:
    cell.imshow(image, cmap='gray', vmin=0, vmax=1, interpolation='bilinear')
    draw_outline(cell, mask >= 0.5, TRUTH_FILL, 1.0)
    cell.set_xticks([])
    cell.set_yticks([])
    cell.set_title(caption, fontsize=7.5, pad=2)
