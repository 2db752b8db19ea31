"""Pieces of HTML that the sections share. Everything that is not ours is escaped here or where it is put in."""

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

from liver_jax.report.tables import UNDEFINED, Table, score_cell

escape = html.escape


def section(name: str, title: str, body: str, lead: str = '') -> str:
    """A section with its heading; `name` is what links lead to."""
    lead = f'<p class="lead">{lead}</p>' if lead else ''
    return (
        f'<section id="{name}" aria-labelledby="{name}-title"><h2 id="{name}-title">{title}</h2>{lead}{body}</section>'
    )


def html_table(table: Table, intervals: Mapping[str, Any] | None = None, kind: str = '') -> str:
    """A table of scores; the best network of a column in bold, an interval below its score."""
    networks = [name for name in table.rows if name in ('U-Net', 'ResU-Net')]
    head = ''.join(
        f'<th scope="col">{escape(column.heading)} <small>{escape(column.average)}</small></th>'
        for column in table.columns
    )
    rows = []
    for name, scores in table.rows.items():
        cells = []
        for column in table.columns:
            best = column.average and len(networks) > 1 and _is_best(name, column.key, table.rows, networks)
            text = score_cell(scores, column)
            text = f'<b>{text}</b>' if best else text
            interval = mapping((intervals or {}).get(name)).get(column.key)
            cells.append(f'<td>{text}{_interval(interval)}</td>')
        rows.append(f'<tr><th scope="row">{escape(name)}</th>{"".join(cells)}</tr>')
    return scrolling(
        f'<table class="numbers {kind}"><caption class="unseen">{escape(table.title)}</caption>'
        f'<thead><tr><td></td>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    )


def grid_table(grid: Sequence[Sequence[str]], caption: str, kind: str = '') -> str:
    """Words: the first row and the first column are headings; `caption` is for those who do not see the table."""
    head, *rows = grid
    columns = ''.join(f'<th scope="col">{escape(word)}</th>' for word in head[1:])
    body = ''.join(
        f'<tr><th scope="row">{escape(name)}</th>{"".join(f"<td>{escape(word)}</td>" for word in words)}</tr>'
        for name, *words in rows
    )
    return scrolling(
        f'<table class="numbers {kind}"><caption class="unseen">{escape(caption)}</caption>'
        f'<thead><tr><td>{escape(head[0])}</td>{columns}</tr></thead><tbody>{body}</tbody></table>'
    )


def pairs_table(values: Mapping[str, Any]) -> str:
    """Names and what they are, a pair per line."""
    rows = ''.join(
        f'<tr><th scope="row">{escape(str(k))}</th><td>{escape(str(v))}</td></tr>' for k, v in values.items()
    )
    return scrolling(f'<table class="pairs"><tbody>{rows}</tbody></table>')


def scrolling(table: str) -> str:
    """In a box of its own that scrolls sideways where it is too wide."""
    # A region that scrolls must be reachable by key.
    return f'<div class="scroll" tabindex="0">{table}</div>'


def counted(number: int, unit: str) -> str:
    """1 as '1 lesion', 2 as '2 lesions'."""
    return f'{number:,} {unit}' + ('' if number == 1 else 's')


def volume(ml: float) -> str:
    """With two digits below 1 ml, where so many decimals would be nothing; above with one decimal."""
    return '0' if not ml else f'{ml:#.2g}' if ml < 1 else f'{ml:,.1f}'


def mapping(value: Any) -> Mapping[str, Any]:
    """The value if it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def finite(value: Any) -> bool:
    """Whether it is a number that can be shown."""
    return isinstance(value, (int, float)) and math.isfinite(value)


def number(value: Any, style: str = '.4f') -> str:
    """As it stands in tables."""
    return format(float(value), style) if finite(value) else UNDEFINED


def _is_best(name: str, key: str, rows: Mapping[str, Mapping[str, Any]], networks: list[str]) -> bool:
    values = [rows[network].get(key) for network in networks]
    differ = all(map(finite, values)) and len(set(values)) > 1
    return differ and name in networks and rows[name].get(key) == max(values)  # type: ignore[type-var]


def _interval(interval: Any) -> str:
    if not isinstance(interval, Sequence) or len(interval) != 2 or not all(map(finite, interval)):
        return ''
    return f'<small class="interval">{interval[0]:.3f} to {interval[1]:.3f}</small>'
