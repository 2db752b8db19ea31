"""What every figure of the report shares: colours, outlines, the warning in the foot, and an atomic way to a PNG.

All figures use matplotlib's object interface with the Agg canvas, never pyplot: pyplot keeps global state,
which leaks memory in long runs and is not safe beside other threads.
"""

import os
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

DOTS_PER_INCH = 110

# Okabe and Ito's palette, which stays distinct under the common forms of colour blindness. U-Net is the warm
# colour and ResU-Net the blue one in every figure: light shades on black CT, dark shades on white paper.
ON_DARK = {'U-Net': '#E69F00', 'ResU-Net': '#56B4E9'}
ON_WHITE = {'U-Net': '#D55E00', 'ResU-Net': '#0072B2'}
TRUTH_FILL = '#009E73'
WARNING_COLOUR = '#A33B00'


def network_colours(names: Sequence[str], palette: dict[str, str]) -> dict[str, str]:
    """Gives every network its colour: its own where the palette names it, otherwise the next free one.

    Args:
        names: Display names of the networks, at most as many as the palette has colours.
        palette: Display name to colour, `ON_DARK` or `ON_WHITE`.

    Returns:
        Display name to colour, no colour twice.
    """
    if len(names) > len(palette):
        raise ValueError(f'{len(names)} networks {list(names)}, a figure holds at most {len(palette)}')
    free = [colour for name, colour in palette.items() if name not in names]
    return {name: palette[name] if name in palette else free.pop(0) for name in names}


def wrap_to_width(text: str, inches: float, points: float) -> str:
    """Breaks `text` into lines that fit `inches` at a font size of `points`, in matplotlib's own font."""
    mean_letter = 0.62 * points / 72
    return '\n'.join(textwrap.wrap(text, max(8, int(inches / mean_letter))))


def draw_outline(cell: Axes, mask: np.ndarray, colour: str, points: float) -> None:
    """Draws the edge of [H, W] `mask` along its pixels' borders.

    Each pixel counts four times in each direction, because a contour drawn through the pixels' centres would
    turn a single pixel into a diamond of half its size. The rim of background closes contours at the border.
    """
    if not mask.any():
        return
    finer = np.kron(np.pad(mask.astype(np.float32), 1), np.ones((4, 4), np.float32))
    rows, columns = ((np.arange(length) + 0.5) / 4 - 1.5 for length in finer.shape)
    limits = cell.get_xlim(), cell.get_ylim()
    cell.contour(columns, rows, finer, levels=[0.5], colors=[colour], linewidths=points)
    cell.set(xlim=limits[0], ylim=limits[1])


def save_png(figure: Figure, path: Path) -> None:
    """Writes `figure` to `path` as a PNG; a reader sees the old file or the whole new one, never half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure)
    unfinished = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
    try:
        figure.savefig(unfinished, format='png', dpi=DOTS_PER_INCH)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
