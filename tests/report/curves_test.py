"""Training histories as a figure: what is drawn where, and what gaps do."""

import math
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import same_color

from liver_jax.report.curves import CURVES, draw_curves, make_curve_figure
from liver_jax.report.figures import ON_WHITE

UNET = [
    {'step': 10, 'train/loss': 0.8, 'train/learning_rate': 1e-3},
    {'step': 10, 'val/loss': 0.7, 'val/dice_image': 0.2, 'val/dice_pooled': 0.3},
    {'step': 20, 'train/loss': 0.4, 'train/learning_rate': 5e-4},
    {'step': 20, 'val/loss': 0.5, 'val/dice_image': 0.6, 'val/dice_pooled': 0.7},
    {'step': 30, 'train/loss': 0.1, 'train/learning_rate': 0.0},
    {'step': 30, 'val/loss': 0.6, 'val/dice_image': 0.5, 'val/dice_pooled': 0.8},
]
RESUNET = [{**row, 'step': row['step'] + 5} for row in UNET]


def axes_of(key: str, histories: dict[str, list[dict[str, float]]], **kwargs: str) -> Axes:
    return make_curve_figure(histories, **kwargs).axes[[curve[0] for curve in CURVES].index(key)]


def curve_of(axes: Axes, colour: str) -> tuple[list[float], list[float]]:
    """The steps and values of the network's main line."""
    lines = [line for line in axes.lines if same_color(line.get_color(), colour)]
    (main,) = [line for line in lines if line.get_linewidth() > 1 and line.get_marker() != '*']
    steps, values = main.get_data()
    return np.asarray(steps, float).tolist(), np.asarray(values, float).tolist()


def stars_of(axes: Axes) -> list[tuple[float, float]]:
    stars = [np.asarray(line.get_data(), float) for line in axes.lines if line.get_marker() == '*']
    return [(float(step), float(value)) for star in stars for step, value in star.T]


def test_values_lie_on_their_axes() -> None:
    histories = {'U-Net': UNET, 'ResU-Net': RESUNET}
    for key, expected in {
        'train/loss': [0.8, 0.4, 0.1],
        'val/loss': [0.7, 0.5, 0.6],
        'train/learning_rate': [1e-3, 5e-4, 0.0],
        'val/dice_image': [0.2, 0.6, 0.5],
        'val/dice_pooled': [0.3, 0.7, 0.8],
    }.items():
        axes = axes_of(key, histories)
        assert curve_of(axes, ON_WHITE['U-Net']) == ([10, 20, 30], expected)
        assert curve_of(axes, ON_WHITE['ResU-Net']) == ([15, 25, 35], expected)
        assert axes.get_yscale() == ('log' if key.endswith('loss') else 'linear')
        assert len({line.get_linestyle() for line in axes.lines if line.get_linewidth() == 1.8}) == 2


def test_best_step_is_marked_on_validation_curves() -> None:
    for key, value in {'val/loss': 0.5, 'val/dice_image': 0.6, 'val/dice_pooled': 0.7}.items():
        assert stars_of(axes_of(key, {'U-Net': UNET})) == [(20, value)]
    assert stars_of(axes_of('train/loss', {'U-Net': UNET})) == []
    assert stars_of(axes_of('val/loss', {'U-Net': UNET}, best_by='val/dice_pooled')) == [(30, 0.6)]
    assert stars_of(axes_of('val/dice_pooled', {'U-Net': UNET}, best_by='val/loss')) == [(20, 0.7)]
    legend = make_curve_figure({'U-Net': UNET}).axes[-1].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ['U-Net\nbest at step 20: 0.6000']


def test_gaps_are_left_out_and_a_repeated_step_replaces_the_earlier() -> None:
    rows = [
        {'step': 3, 'val/dice_image': 0.5},
        {'step': 1, 'val/dice_image': 0.9},
        {'step': 1, 'val/dice_image': 0.4},
        {'step': 2, 'val/dice_image': math.nan},
        {'step': 4, 'val/loss': 0.0},
        {'step': 5, 'val/loss': 0.3},
        {'step': 6, 'val/loss': math.inf},
    ]
    assert curve_of(axes_of('val/dice_image', {'U-Net': rows}), ON_WHITE['U-Net']) == ([1, 3], [0.4, 0.5])
    assert curve_of(axes_of('val/loss', {'U-Net': rows}), ON_WHITE['U-Net']) == ([5], [0.3])


@pytest.mark.parametrize(
    'histories',
    [
        {},
        {'U-Net': []},
        {'U-Net': [{'step': 1, 'val/loss': math.nan}], 'ResU-Net': []},
    ],
)
def test_nothing_to_draw_says_so(histories: dict[str, list[dict[str, float]]], tmp_path: Path) -> None:
    figure = make_curve_figure(histories)
    assert [axes.texts[0].get_text() for axes in figure.axes[:-1]] == ['not recorded'] * 5
    draw_curves(tmp_path / 'curves.png', histories)
    assert (tmp_path / 'curves.png').exists()


def test_one_point_is_visible(tmp_path: Path) -> None:
    draw_curves(tmp_path / 'curves.png', {'U-Net': [{'step': 1, 'train/loss': 0.5}]})
    pixels = matplotlib.image.imread(tmp_path / 'curves.png')[..., :3]
    rows, columns = pixels.shape[:2]
    first = pixels[60 : rows // 2 - 80, 60 : columns // 3 - 20]
    colour = np.array([0xD5, 0x5E, 0x00]) / 255
    assert (np.abs(first - colour).max(axis=-1) < 0.02).sum() > 10


def test_noisy_loss_is_drawn_thin_under_its_running_mean() -> None:
    rows = [{'step': step, 'train/loss': 1.5 if step % 2 else 0.5} for step in range(300)]
    axes = axes_of('train/loss', {'U-Net': rows})
    steps, mean = curve_of(axes, ON_WHITE['U-Net'])
    np.testing.assert_allclose(mean, 1.0, atol=1e-6)
    # A window of 10 steps: 291 means, the first in the middle of steps 0 to 9.
    assert (len(steps), steps[0], steps[-1]) == (291, 5, 295)
    assert axes.get_title(loc='left') == 'training loss (thin) and its running mean'


def test_warning_in_the_foot_makes_room_for_itself(tmp_path: Path) -> None:
    draw_curves(tmp_path / 'plain.png', {'U-Net': UNET})
    draw_curves(tmp_path / 'new' / 'warned.png', {'U-Net': UNET}, warning='slice split')
    plain = matplotlib.image.imread(tmp_path / 'plain.png')
    warned = matplotlib.image.imread(tmp_path / 'new' / 'warned.png')
    assert plain.shape[:2] == (726, 1320)
    assert warned.shape[0] > plain.shape[0]
    assert make_curve_figure({'U-Net': UNET}, 'slice split').texts[0].get_text() == 'slice split'
    reddish = (warned[726:, :300, 0] - warned[726:, :300, 2]) > 0.4
    assert reddish.sum() > 50
    assert sorted(path.name for path in (tmp_path / 'new').iterdir()) == ['warned.png']
