"""What every figure of the report shares: colours, the warning in the foot, and an atomic way to a PNG.

All figures use matplotlib's object interface with the Agg canvas, never pyplot: pyplot keeps global state,
which leaks memory in long runs and is not safe beside other threads.
"""

import os
import textwrap
from collections.abc import Sequence
from pathlib import Path

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
