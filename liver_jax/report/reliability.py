"""Reliability diagram: how often a pixel is the target where the network says that it is so with some probability."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from liver_jax.report.figures import ON_WHITE, WARNING_COLOUR, network_colours, save_png, wrap_to_width

WIDTH, HEIGHT = 6.4, 7.2


def draw_reliability(path: Path, calibrations: Mapping[str, Mapping[str, Any]], warning: str = '') -> None:
    """Writes the diagram to `path` as a PNG, atomically.

    Args:
        path: The PNG; its folder is made if need be.
        calibrations: Display name ('U-Net', 'ResU-Net') to 'bins' (each with 'confidence', 'frequency' and 'count'),
            'ece', 'brier' and 'temperature'.
        warning: What makes the figure look better than it is, printed in its foot.
    """
    save_png(make_reliability_figure(calibrations, warning), path)


def make_reliability_figure(calibrations: Mapping[str, Mapping[str, Any]], warning: str = '') -> Figure:
    """Builds the figure of `draw_reliability`: frequency over confidence, below it the pixels per bin."""
    warning = wrap_to_width(warning, WIDTH - 0.3, 10)
    foot = 0.15 + 0.2 * (warning.count('\n') + 1) if warning else 0.0
    height = HEIGHT + foot
    layout = ConstrainedLayoutEngine(rect=(0, foot / height, 1, 1 - foot / height), w_pad=0.1, h_pad=0.1)
    figure = Figure(figsize=(WIDTH, height), facecolor='white', layout=layout)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    colours = network_colours(list(calibrations), ON_WHITE)
    upper.plot([0, 1], [0, 1], color='#808080', linewidth=1, linestyle=':', label='perfectly calibrated')
    for number, (name, found) in enumerate(calibrations.items()):
        bins = [each for each in found['bins'] if each['count']]
        label = f'{name}: ECE {found["ece"]:.4f}, Brier {found["brier"]:.4f}'
        if found['temperature'] == found['temperature']:  # not NaN
            label += f', temperature {found["temperature"]:.2f}'
        confidence = [each['confidence'] for each in bins]
        style, marker = ('-', 'o') if number == 0 else ('--', 's')
        upper.plot(
            confidence, [each['frequency'] for each in bins], color=colours[name], linestyle=style, marker=marker,
            markersize=5, linewidth=1.8, label=label,
        )  # fmt: skip
        lower.plot(
            confidence, [each['count'] for each in bins], color=colours[name], linestyle=style, marker=marker,
            markersize=4, linewidth=1.2,
        )  # fmt: skip
    upper.set(xlim=(0, 1), ylim=(-0.02, 1.02), ylabel='part of these pixels that is the target')
    upper.set_title('Reliability of the probabilities on the test set', fontsize=11, loc='left')
    upper.legend(loc='upper left', fontsize=8.5, frameon=False)
    lower.set(xlabel='mean probability in the bin', ylabel='pixels', yscale='log')
    for cell in (upper, lower):
        cell.grid(color='#D8D8D8', linewidth=0.6)
        cell.spines[['top', 'right']].set_visible(False)
    if warning:
        figure.text(
            0.15 / WIDTH, 0.12 / height, warning, fontsize=10, fontweight='bold', color=WARNING_COLOUR, va='bottom'
        )
    return figure
