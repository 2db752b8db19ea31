"""Slices side by side: CT, truth, each network's prediction, and where the two networks disagree.

One row per slice. The first column shows the whole slice. Where all that is marked lies close together, the
other columns show only the box drawn there, magnified, so that a lesion of a dozen pixels can be judged.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from liver_jax.report.figures import (
    ON_DARK,
    TRUTH_FILL,
    WARNING_COLOUR,
    draw_outline,
    network_colours,
    save_png,
    wrap_to_width,
)

# Top, left and side in pixels of the slice.
Box = tuple[int, int, int]
DASHES = (0, (3, 2))

# Inches.
CELL = 2.2
GAP = 0.08
MARGIN = 0.15
# Above a row's cells: the gap to the row above, the row's label, the cells' titles.
ROW_HEAD = 0.62
LINE = 0.2

# Enough colour to see, little enough to still read the tissue below.
FILL_ALPHA = 0.3
# The disagreement is about which pixels, not about the tissue below them.
DISAGREEMENT_ALPHA = 0.75
# Shares of the slice. A lesion is read with the anatomy around it, so a box has a margin and a smallest side;
# a box of nearly the whole slice magnifies nothing worth losing the rest for.
BOX_MARGIN = 0.2
SMALLEST_BOX = 0.3
LARGEST_BOX = 0.8


@dataclass(frozen=True, eq=False)
class Panel:
    """One slice and what was predicted on it.

    Attributes:
        image: [H, W] float32 in [0, 1], windowed.
        truth: [H, W] bool.
        predictions: Display name ('U-Net', 'ResU-Net') to [H, W] bool; one or two networks.
        case: Name of the scan.
        slice_index: Position of the slice in the scan.
        dice: Display name to the slice's Dice; NaN or absent where it is undefined.
        note: Anything a reader should know of the slice, such as 'lesion 12 px'.
    """

    image: np.ndarray
    truth: np.ndarray
    predictions: dict[str, np.ndarray]
    case: str
    slice_index: int
    dice: dict[str, float] = field(default_factory=dict)
    note: str = ''

    def __post_init__(self) -> None:
        """Refuses masks that do not lie on the image: drawn anyway, they would show a false result."""
        if self.image.ndim != 2:
            raise ValueError(f'{self._name}: image is {self.image.shape}, expected [H, W]')
        for name, mask in {'truth': self.truth, **self.predictions}.items():
            if mask.shape != self.image.shape:
                raise ValueError(f'{self._name}: {name} is {mask.shape}, the image {self.image.shape}')

    @property
    def _name(self) -> str:
        return f'panel {self.case}, slice {self.slice_index}'


def draw_panels(path: Path, title: str, panels: Sequence[Panel], warning: str = '') -> None:
    """Writes the panels to `path` as one PNG, a row each, atomically.

    Args:
        path: The PNG; its folder is made if need be.
        title: Headline of the figure.
        panels: At least one; all with the same networks.
        warning: What makes the figure look better than it is, printed in its foot.
    """
    save_png(make_panel_figure(title, panels, warning), path)


def make_panel_figure(title: str, panels: Sequence[Panel], warning: str = '') -> Figure:
    """Builds the figure of `draw_panels`; its axes are the cells, row by row, each in pixels of the slice."""
    names = _network_names(panels)
    columns = len(names) + (3 if len(names) == 2 else 2)
    width = 2 * MARGIN + columns * CELL + (columns - 1) * GAP
    title = wrap_to_width(title, width - 2 * MARGIN, 13)
    warning = wrap_to_width(warning, width - 2 * MARGIN, 10)
    head = 1.2 * LINE * (title.count('\n') + 1)
    legend = 0.36 if columns == 5 else 0.54
    foot = legend + (MARGIN + LINE * (warning.count('\n') + 1) if warning else 0)
    height = head + len(panels) * (ROW_HEAD + CELL) + MARGIN + foot
    figure = Figure(figsize=(width, height), facecolor='white')
    figure.text(MARGIN / width, 1 - MARGIN / height, title, fontsize=13, fontweight='bold', va='top')
    colours = network_colours(names, ON_DARK)
    boxes = [_box_around(panel) for panel in panels]
    for row, panel in enumerate(panels):
        bottom = height - head - (row + 1) * (ROW_HEAD + CELL)
        label = _row_label(panel, width - 2 * MARGIN)
        figure.text(MARGIN / width, (bottom + CELL + 0.25) / height, label, fontsize=10.5, fontweight='bold')
        cells = []
        for column in range(columns):
            left = MARGIN + column * (CELL + GAP)
            cells.append(figure.add_axes((left / width, bottom / height, CELL / width, CELL / height)))
        _draw_row(cells, panel, colours, boxes[row])
    figure.legend(
        handles=_legend(colours, magnified=any(boxes)),
        loc='upper center',
        fontsize=9,
        ncols=4 if columns == 5 else 2,
        bbox_to_anchor=(0.5, foot / height),
        facecolor='#202020',
        labelcolor='white',
        framealpha=1,
        borderaxespad=0,
        handlelength=2.2,
        columnspacing=1.6,
    )
    if warning:
        figure.text(
            MARGIN / width, MARGIN / height, warning, fontsize=10, fontweight='bold', color=WARNING_COLOUR, va='bottom'
        )
    return figure


def _network_names(panels: Sequence[Panel]) -> list[str]:
    """The networks of all panels, in the order of the first."""
    if not panels:
        raise ValueError('no panels to draw, expected at least one slice')
    names = list(panels[0].predictions)
    if not names:
        raise ValueError(f'{panels[0]._name}: no predictions, expected those of one or two networks')
    for panel in panels:
        if set(panel.predictions) != set(names):
            found = sorted(panel.predictions)
            raise ValueError(f'{panel._name}: networks {found}, the first panel has {sorted(names)}')
    return names


def _row_label(panel: Panel, inches: float) -> str:
    """Case, slice and note on one line; a long case name keeps its end, where scans of a series differ."""
    case = panel.case if len(panel.case) <= 30 else '…' + panel.case[-29:]
    label = '  ·  '.join(part for part in (case, f'slice {panel.slice_index}', panel.note) if part)
    fitting = wrap_to_width(label, inches, 10.5).split('\n')[0]
    return label if fitting == label else fitting + ' …'


def _draw_row(cells: Sequence[Axes], panel: Panel, colours: dict[str, str], box: Box | None) -> None:
    """Fills a row: CT | truth | one cell per network | disagreement, the last with two networks only."""
    rows, columns = panel.image.shape
    whole = (0, 0, rows, columns)
    _draw_image(cells[0], panel.image, whole, 'CT')
    if box:
        top, left, side = box
        cells[0].add_patch(
            Rectangle((left - 0.5, top - 0.5), side, side, fill=False, edgecolor='white', linewidth=1, linestyle=DASHES)
        )
        magnified, view = f'   ×{max(rows, columns) / side:.1f}', (top, left, side, side)
    else:
        magnified, view = '', whole
    # Lines in proportion to the pixels as shown: a thick one would bury a small lesion that is not magnified.
    thick = float(np.clip(0.8 + 0.6 * 72 * CELL / max(view[2:]), 1.4, 2.6))
    thin = 0.4 * thick
    _draw_image(cells[1], panel.image, view, ('truth' if panel.truth.any() else 'truth: none') + magnified)
    _draw_fill(cells[1], panel.truth, TRUTH_FILL, FILL_ALPHA)
    draw_outline(cells[1], panel.truth, 'white', thin)
    for cell, (name, colour) in zip(cells[2:], colours.items(), strict=False):
        prediction = panel.predictions[name]
        _draw_image(cell, panel.image, view, f'{name}   Dice {_score(panel.dice.get(name))}')
        _draw_fill(cell, prediction, colour, FILL_ALPHA)
        draw_outline(cell, prediction, colour, thick)
        draw_outline(cell, panel.truth, 'white', thin)
    if len(colours) == 2:
        (first, first_colour), (second, second_colour) = colours.items()
        only_first = panel.predictions[first] & ~panel.predictions[second]
        only_second = panel.predictions[second] & ~panel.predictions[first]
        count = int(only_first.sum() + only_second.sum())
        _draw_image(cells[-1], panel.image, view, f'disagreement   {count:,} px')
        _draw_fill(cells[-1], only_first, first_colour, DISAGREEMENT_ALPHA)
        _draw_fill(cells[-1], only_second, second_colour, DISAGREEMENT_ALPHA)
        draw_outline(cells[-1], panel.truth, 'white', thin)


def _box_around(panel: Panel) -> Box | None:
    """The square to magnify around all that is marked, or None to show the whole slice."""
    marked = np.logical_or.reduce([panel.truth, *panel.predictions.values()])
    if not marked.any():
        return None
    rows, columns = np.flatnonzero(marked.any(axis=1)), np.flatnonzero(marked.any(axis=0))
    shortest = min(marked.shape)
    extent = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
    side = math.ceil(max(extent + BOX_MARGIN * shortest, SMALLEST_BOX * shortest))
    if side > LARGEST_BOX * shortest:
        return None
    top = (rows[0] + rows[-1] + 1 - side) // 2
    left = (columns[0] + columns[-1] + 1 - side) // 2
    return (int(np.clip(top, 0, marked.shape[0] - side)), int(np.clip(left, 0, marked.shape[1] - side)), side)


def _draw_image(cell: Axes, image: np.ndarray, view: tuple[int, int, int, int], title: str) -> None:
    """Shows `view` (top, left, height, width) of the slice; beside a slice that is not square: black."""
    cell.imshow(image, cmap='gray', vmin=0, vmax=1, interpolation='bilinear')
    top, left, height, width = view
    side = max(height, width)
    middle_row, middle_column = top + height / 2 - 0.5, left + width / 2 - 0.5
    cell.set_xlim(middle_column - side / 2, middle_column + side / 2)
    cell.set_ylim(middle_row + side / 2, middle_row - side / 2)
    cell.set_facecolor('black')
    cell.set_xticks([])
    cell.set_yticks([])
    cell.set_title(title, fontsize=10, pad=3)


def _draw_fill(cell: Axes, mask: np.ndarray, colour: str, alpha: float) -> None:
    """Lays a translucent colour over [H, W] `mask`."""
    layer = np.zeros((*mask.shape, 4), np.float32)
    layer[mask.astype(bool)] = to_rgba(colour, alpha)
    cell.imshow(layer, interpolation='nearest', extent=cell.images[0].get_extent())


def _legend(colours: dict[str, str], magnified: bool) -> list[Artist]:
    """What each colour and line means, on the dark ground the colours are chosen for."""
    truth = Patch(facecolor=to_rgba(TRUTH_FILL, 0.7), edgecolor='white', label='truth (white outline)')
    handles: list[Artist] = [truth]
    for name, colour in colours.items():
        label = f'{name}; disagreement: {name} only' if len(colours) == 2 else name
        handles.append(Patch(facecolor=to_rgba(colour, 0.75), edgecolor=colour, label=label))
    if magnified:
        handles.append(Line2D([], [], color='white', linestyle=DASHES, label='area magnified to the right'))
    return handles


def _score(value: float | None) -> str:
    return '–' if value is None or not math.isfinite(value) else f'{value:.3f}'
