"""Training histories of the networks: losses, validation Dice and learning rate over optimisation steps."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import AutoLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from liver_jax.report.figures import ON_WHITE, WARNING_COLOUR, network_colours, save_png, wrap_to_width

LineStyle = Literal['-', '--']
Histories = dict[str, list[dict[str, float]]]

# Key in a history, title, whether the axis is logarithmic.
CURVES = (
    ('train/loss', 'training loss', True),
    ('val/loss', 'validation loss', True),
    ('train/learning_rate', 'learning rate', False),
    ('val/dice_image', 'validation Dice, mean over images', False),
    ('val/dice_pooled', 'validation Dice, pooled over pixels', False),
)
LINE_STYLES: tuple[LineStyle, ...] = ('-', '--')
# Beyond this many points a training loss is a band: its running mean is drawn over it.
NOISY = 150
# Up to this many points each is marked: one point alone would otherwise be invisible.
FEW = 40
WIDTH, HEIGHT = 12.0, 6.6


def draw_curves(path: Path, histories: Histories, warning: str = '', best_by: str = 'val/dice_image') -> None:
    """Writes the training histories to `path` as one PNG, atomically.

    Args:
        path: The PNG; its folder is made if need be.
        histories: Display name ('U-Net', 'ResU-Net') to the rows of its metrics.jsonl: 'step' and any of
            'train/loss', 'train/learning_rate', 'val/loss', 'val/dice_image', 'val/dice_pooled'. A missing
            key or a value that is not finite is a gap; a step that occurs again (a resumed run) replaces the
            earlier one.
        warning: What makes the figure look better than it is, printed in its foot.
        best_by: Key by which a network's best validation step is chosen and marked: the lowest value of a key
            that ends in 'loss', the highest of any other; the first of equals.
    """
    save_png(make_curve_figure(histories, warning, best_by), path)


def make_curve_figure(histories: Histories, warning: str = '', best_by: str = 'val/dice_image') -> Figure:
    """Builds the figure of `draw_curves`; its first axes are those of `CURVES`, in order."""
    colours = network_colours(list(histories), ON_WHITE)
    warning = wrap_to_width(warning, WIDTH - 0.3, 10)
    foot = 0.15 + 0.2 * (warning.count('\n') + 1) if warning else 0.0
    height = HEIGHT + foot
    layout = ConstrainedLayoutEngine(rect=(0, foot / height, 1, 1 - foot / height), w_pad=0.08, h_pad=0.1)
    figure = Figure(figsize=(WIDTH, height), facecolor='white', layout=layout)
    cells = figure.subplots(2, 3).ravel()
    best = {name: _best_step(rows, best_by) for name, rows in histories.items()}
    styles = dict(zip(histories, LINE_STYLES, strict=False))
    for cell, (key, title, logarithmic) in zip(cells, CURVES, strict=False):
        for name, rows in histories.items():
            steps, values = _series(rows, key, logarithmic)
            if len(values):
                _draw_curve(cell, steps, values, colours[name], styles[name], smooth=key == 'train/loss')
                _mark_best(cell, steps, values, best[name], colours[name], star=key.startswith('val/'))
        _dress(cell, key, title, logarithmic)
    _align_steps(cells, histories)
    _draw_legend(cells[-1], colours, styles, best, best_by)
    if warning:
        figure.text(
            0.15 / WIDTH, 0.12 / height, warning, fontsize=10, fontweight='bold', color=WARNING_COLOUR, va='bottom'
        )
    return figure


def _series(rows: list[dict[str, float]], key: str, positive: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values [N] of one key, by step, without gaps; `positive` for a logarithm."""
    values = {float(row['step']): float(row[key]) for row in rows if row.get(key) is not None}
    kept = sorted(
        (step, value) for step, value in values.items() if math.isfinite(value) and (value > 0 or not positive)
    )
    return np.array([step for step, _ in kept]), np.array([value for _, value in kept])


def _best_step(rows: list[dict[str, float]], key: str) -> tuple[int, float] | None:
    """The step and value of the best validation, or None when there was none."""
    steps, values = _series(rows, key)
    if not len(values):
        return None
    index = int(np.argmin(values) if key.endswith('loss') else np.argmax(values))
    return int(steps[index]), float(values[index])


def _draw_curve(cell: Axes, steps: np.ndarray, values: np.ndarray, colour: str, style: LineStyle, smooth: bool) -> None:
    """Draws one network's line: its points marked where they are few, a band with its mean where noisy."""
    if smooth and len(values) > NOISY:
        cell.plot(steps, values, color=colour, linewidth=0.6, alpha=0.3, label='each step')
        window = len(values) // 30
        mean = np.convolve(values, np.ones(window) / window, mode='valid')
        start = window // 2
        steps, values = steps[start : start + len(mean)], mean
    marker = 'o' if len(values) <= FEW else ''
    cell.plot(steps, values, color=colour, linestyle=style, linewidth=1.8, marker=marker, markersize=3.5)


def _mark_best(
    cell: Axes, steps: np.ndarray, values: np.ndarray, best: tuple[int, float] | None, colour: str, star: bool
) -> None:
    """Draws a thin line at the best step and, on validation curves, a star on the curve."""
    if best is None:
        return
    cell.axvline(best[0], color=colour, linewidth=0.9, linestyle=':', zorder=1)
    at = steps == best[0]
    if star and at.any():
        cell.plot(
            steps[at],
            values[at],
            color=colour,
            marker='*',
            markersize=13,
            markeredgecolor='black',
            markeredgewidth=0.8,
            zorder=5,
        )


def _dress(cell: Axes, key: str, title: str, logarithmic: bool) -> None:
    """Title, grid, limits and plain numbers on the axes; says so where there is nothing to draw."""
    cell.set_title(title, fontsize=11, loc='left')
    cell.set_xlabel('step', fontsize=9)
    cell.tick_params(labelsize=8)
    cell.spines[['top', 'right']].set_visible(False)
    if not cell.lines:
        cell.set(xticks=[], yticks=[])
        cell.text(0.5, 0.5, 'not recorded', transform=cell.transAxes, ha='center', va='center')
        return
    if any(line.get_label() == 'each step' for line in cell.lines):
        cell.set_title(f'{title} (thin) and its running mean', fontsize=11, loc='left')
    cell.grid(color='#D8D8D8', linewidth=0.6)
    if 'dice' in key:
        cell.set_ylim(-0.02, 1.02)
    if logarithmic:
        lowest, highest = cell.dataLim.intervaly
        cell.set_yscale('log')
        # Within one decade a logarithmic axis would label nothing or everything.
        narrow = highest < 10 * lowest
        cell.yaxis.set_major_locator(AutoLocator() if narrow else LogLocator(subs=(1, 2, 5)))
        cell.yaxis.set_minor_locator(NullLocator())
    cell.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))
    cell.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    cell.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:,.0f}'))


def _align_steps(cells: Sequence[Axes], histories: Histories) -> None:
    """Gives every plot the same range of steps, so that one step lies at one place in all of them."""
    steps = [float(row['step']) for rows in histories.values() for row in rows]
    if steps:
        margin = max(0.04 * (max(steps) - min(steps)), 0.5)
        for cell in cells:
            if cell.lines:
                cell.set_xlim(min(steps) - margin, max(steps) + margin)


def _draw_legend(
    cell: Axes,
    colours: dict[str, str],
    styles: dict[str, LineStyle],
    best: dict[str, tuple[int, float] | None],
    best_by: str,
) -> None:
    """Uses the last cell for what the lines mean and where each network was best."""
    cell.axis('off')
    handles = []
    for name, colour in colours.items():
        found = best[name]
        where = f'best at step {found[0]:,}: {found[1]:.4f}' if found else 'best: not recorded'
        marker = '*' if found else ''
        handles.append(
            Line2D(
                [],
                [],
                color=colour,
                linestyle=styles[name],
                linewidth=2,
                marker=marker,
                markersize=12,
                markeredgecolor='black',
                label=f'{name}\n{where}',
            )
        )
    if handles:
        title = f'star, dotted line: best validation\nby {best_by}'
        cell.legend(
            handles=handles,
            loc='center',
            fontsize=10.5,
            handlelength=4,
            labelspacing=1.4,
            frameon=False,
            title=title,
            title_fontsize=9.5,
        )
