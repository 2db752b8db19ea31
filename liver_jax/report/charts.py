"""Charts of the page as inline SVG: attributes only, for the page's policy knows no inline styles; text alternatives.

Every chart is drawn for a width of 460 units, which a phone shows at about full size.
"""

import html
import math
from collections.abc import Sequence

import numpy as np

from liver_jax.report.figures import ON_WHITE

WIDTH = 460
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 14, 12, 42
_INK, _GRID = '#3d4852', '#e3e7eb'
MARKS = {'U-Net': 'circle', 'ResU-Net': 'diamond'}


class Chart:
    """A frame with two axes, to which lines and marks are added in the units of the data."""

    def __init__(
        self,
        title: str,
        description: str,
        x: tuple[float, float],
        y: tuple[float, float],
        height: int = 280,
        left: int = _LEFT,
        log_x: bool = False,
        log_y: bool = False,
    ) -> None:
        """`title` and `description` are for those who do not see it; `x` and `y` are the ranges."""
        self._ranges, self._log = (x, y), (log_x, log_y)
        self._height, self._left = height, left
        label = f'{title}. {description}'
        self._parts = [
            f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{html.escape(label)}">'
        ]

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Where a point of the data lies."""
        (low_x, high_x), (low_y, high_y) = self._ranges
        across = _share(x, low_x, high_x, self._log[0])
        up = _share(y, low_y, high_y, self._log[1])
        return (
            round(self._left + across * (WIDTH - self._left - _RIGHT), 1),
            round(self._height - _BOTTOM - up * (self._height - _TOP - _BOTTOM), 1),
        )

    def axis_x(self, ticks: Sequence[float], label: str) -> None:
        """Grid lines with numbers below, and what they are."""
        for tick in ticks:
            x, bottom = self.place(tick, self._ranges[1][0])
            self._parts.append(f'<path d="M{x} {_TOP}V{bottom}" stroke="{_GRID}"/>')
            self.text(x, bottom + 16, _plain(tick), 'middle')
        self.text((self._left + WIDTH - _RIGHT) / 2, self._height - 6, label, 'middle')

    def axis_y(self, ticks: Sequence[float]) -> None:
        """Grid lines with numbers to the left."""
        for tick in ticks:
            x, y = self.place(self._ranges[0][0], tick)
            self._parts.append(f'<path d="M{x} {y}H{WIDTH - _RIGHT}" stroke="{_GRID}"/>')
            self.text(x - 6, y + 4, _plain(tick), 'end')

    def line(self, points: Sequence[tuple[float, float]], colour: str, width: float = 2, faint: bool = False) -> None:
        """A line through points of the data."""
        path = 'L'.join('{} {}'.format(*self.place(*point)) for point in points)
        if points:
            opacity = ' stroke-opacity="0.35"' if faint else ''
            self._parts.append(
                f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="{width}"{opacity} '
                'stroke-linejoin="round"/>'
            )

    def mark(self, point: tuple[float, float], network: str, tip: str, link: str = '') -> None:
        """A network's mark with a tip; with a link it leads to the slice browser."""
        x, y = self.place(*point)
        colour = ON_WHITE.get(network, _INK)
        shape = (
            f'<path d="M{x} {y - 5.5:.1f}l5.5 5.5l-5.5 5.5l-5.5 -5.5z" fill="{colour}"'
            if MARKS.get(network) == 'diamond'
            else f'<circle cx="{x}" cy="{y}" r="6" fill="{colour}"'
        )
        shape += f' fill-opacity="0.9" stroke="#fff"><title>{html.escape(tip)}</title>'
        shape += '</path>' if 'path' in shape[:6] else '</circle>'
        # Not in the order of the Tab key: the tables link the same places, once each.
        self._parts.append(f'<a href="{html.escape(link)}" tabindex="-1">{shape}</a>' if link else shape)

    def text(self, x: float, y: float, words: str, anchor: str = 'start', bold: bool = False) -> None:
        """Words at a place of the picture."""
        weight = ' font-weight="600"' if bold else ''
        self._parts.append(
            f'<text x="{x}" y="{y}" font-size="12" fill="{_INK}" text-anchor="{anchor}"{weight}>'
            f'{html.escape(words)}</text>'
        )

    def svg(self) -> str:
        """The whole."""
        return ''.join([*self._parts, '</svg>'])


def nice_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """At most about `most` round numbers from `low` to `high`."""
    raw = max(high - low, 1e-12) / most
    unit = 10 ** math.floor(math.log10(raw))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= raw)
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 10) for number in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten from `low` to `high`; over many decades the powers alone."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if math.log10(high / low) < 2.2 else (1,)
    return [factor * 10.0**power for power in powers for factor in factors if low <= factor * 10.0**power <= high]


def running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Means of the same length, over what of the window lies within."""
    weights = np.ones(window)
    return np.convolve(values, weights, 'same') / np.convolve(np.ones(len(values)), weights, 'same')


def _share(value: float, low: float, high: float, log: bool) -> float:
    if log:
        value, low, high = math.log(max(value, 1e-12)), math.log(low), math.log(high)
    return (value - low) / (high - low) if high != low else 0.5


def _plain(value: float) -> str:
    return f'{value / 1000:g}k' if abs(value) >= 10_000 else f'{value:g}'
