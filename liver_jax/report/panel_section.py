"""The honest panel as a section of the page: a table per network, and one of what needs no network."""

from collections.abc import Mapping, Sequence
from typing import Any

from liver_jax.report.markup import escape, grid_table, scrolling, section
from liver_jax.report.panel_table import TITLES, Panel, panel_grids
from liver_jax.report.tables import TARGETS

BESIDE = (
    'All zero predicts nothing. Whole liver and HU threshold (what is darker, by a threshold from validation) are '
    'given the liver of the reference. Ceiling: the reference itself after its way to the network’s grid and back, '
    'cut at one half, or where the Dice of each slice is best. Fitted: threshold and smallest lesion from validation.'
)
RULE = (
    'Per image: mean of the Dice of slices; per case: mean of that of the cases; pooled: one Dice of all pixels. '
    'Network grid: as the network sees it; native grid: probabilities brought back to the scan, then cut. '
    'Empty: neither reference nor prediction has a pixel.'
)
_WITHOUT_SCANS = (
    'Native resolution and slices that were not prepared need the scans, which were not at hand for these numbers.'
)


def honest_panel(results: Mapping[str, Any]) -> str:
    """The section; of each network's readings the lowest and the highest are marked and named."""
    panel: Sequence[Mapping[str, Any]] = results['panel']
    target = str(panel[0]['target'])
    tables = ''.join(_table(each) for each in panel_grids(panel))
    notes = [RULE, BESIDE]
    if not any(row['resolution'] == 'native' for row in panel):
        notes.append(_WITHOUT_SCANS)
    lead = f'The same predictions, read every way: Dice of {escape(TARGETS.get(target, target))} alone.'
    body = f'<div class="tables">{tables}</div>' + ''.join(f'<p class="note">{note}</p>' for note in notes)
    return section('panel', 'The honest panel', body, lead)


def _table(panel: Panel) -> str:
    if panel.readings:
        return f'<div><h3>{escape(panel.name)}</h3><p class="span">{escape(panel.span)}</p>{_readings(panel)}</div>'
    return f'<div><h3>{escape(panel.name)}</h3>{grid_table(panel.grid, panel.name)}</div>'


def _readings(panel: Panel) -> str:
    """Of a network: resolutions over slice sets across."""
    resolutions = [resolution for resolution, _ in panel.readings]
    groups = ''.join(
        f'<th scope="colgroup" colspan="{resolutions.count(resolution)}">{TITLES[resolution]}</th>'
        for resolution in dict.fromkeys(resolutions)
    )
    heads = ''.join(f'<th scope="col">{TITLES[slices]}</th>' for _, slices in panel.readings)
    rows = ''.join(
        f'<tr><th scope="row">{name}</th>'
        + ''.join(_cell(value, (row, column) in panel.ends) for column, value in enumerate(values, 1))
        + '</tr>'
        for row, (name, *values) in enumerate(panel.grid[1:], 1)
    )
    return scrolling(
        f'<table class="numbers readings"><caption class="unseen">{escape(panel.name)}: Dice by average, grid, slices '
        f'and rule</caption><thead><tr><td></td>{groups}</tr><tr><td></td>{heads}</tr></thead><tbody>{rows}</tbody>'
        '</table>'
    )


def _cell(value: str, end: bool) -> str:
    return f'<td class="end"><b>{value}</b></td>' if end else f'<td>{value}</td>'
