"""Markdown tables that can be read as they are, within 80 columns, and numbers for them."""

from collections.abc import Mapping, Sequence
from typing import Any

NONE = '–'


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table with padded columns, the first one to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    rule = f'|:{"-" * (widths[0] + 1)}|' + ''.join(f'{"-" * (width + 1)}:|' for width in widths[1:])
    return '\n'.join([_line(head, widths), rule, *(_line(row, widths) for row in rows)])


def rated(value: Mapping[str, Any]) -> tuple[str, str]:
    """The median of a rate, and half of its spread in percent of it."""
    median = value['median']
    return figures(median), f'±{50 * (value["highest"] - value["lowest"]) / median:.0f} %'


def figures(value: float | None) -> str:
    """Three figures, or all that are before the point."""
    if value is None:
        return NONE
    for digits, least in ((0, 100), (1, 10), (2, 1)):
        if value >= least:
            return f'{value:,.{digits}f}'
    return f'{value:.3g}'


def scaled(value: float | None, unit: str = '') -> str:
    """Two or three figures with a prefix: 12.3 G."""
    if value is None:
        return NONE
    for factor, prefix in ((1e12, 'T'), (1e9, 'G'), (1e6, 'M'), (1e3, 'k')):
        if value >= factor:
            return f'{figures(value / factor)} {prefix}{unit}'
    return f'{figures(value)} {unit}'.strip()


def percent(part: float | None) -> str:
    """A part of 1 in percent."""
    return NONE if part is None else f'{100 * part:.0f} %'


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(cells, widths, strict=True)
    return '| ' + ' | '.join([f'{first[0]:<{first[1]}}', *(f'{cell:>{width}}' for cell, width in others)]) + ' |'
