"""The honest panel in words and tables: how far the reading moves the number, baselines, ceiling, uncertainty."""

import dataclasses
import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from liver_jax.report.tables import DISPLAY_NAMES, TARGETS, UNDEFINED

NAMES = DISPLAY_NAMES | {
    'ceiling_best': 'ceiling, best cut',
    'ceiling_soft': 'ceiling, soft masks',
    'ceiling_nearest': 'ceiling, hard masks',
}
FITTED = '_fitted'
RULES = {'left_out': 'empty left out', 'one': 'empty is 1', 'zero': 'empty is 0'}
READINGS = (('network', 'tumor'), ('network', 'all'), ('native', 'tumor'), ('native', 'all'))
TITLES = {'network': 'network grid', 'native': 'native grid', 'tumor': 'with tumour', 'all': 'all slices'}
Row = Mapping[str, Any]
Grid = list[list[str]]


@dataclasses.dataclass(frozen=True)
class Panel:
    """A table: of a network, with the resolution and slice set of every column; or of all models, without `readings`.

    `span` says from where to where the readings of the network go, `ends` are row and column of these two in the grid.
    """

    name: str
    grid: Grid
    readings: Sequence[tuple[str, str]] = ()
    span: str = ''
    ends: Sequence[tuple[int, int]] = ()

    @property
    def title(self) -> str:
        """Name and span."""
        return f'{self.name}: {self.span}' if self.span else self.name


def panel_grids(panel: Sequence[Mapping[str, Any]]) -> list[Panel]:
    """A table per network, and one of all models read one way."""
    models = list(dict.fromkeys(row['model'] for row in panel))
    networks = [name for name in models if name in ('unet', 'resunet')]
    return [*(_of_network(panel, name) for name in networks), _beside(panel)]


def panel_markdown(results: Mapping[str, Any]) -> str:
    """The panel of a comparison or an evaluation as Markdown; empty where `results` has none.

    Args:
        results: `panel` (rows of target, average, resolution, slices, empty_rule, model, dice), and any of
            `panel_note`, `panel_rule`, `calibration`, `patient_dice`, `paired`.
    """
    if not results.get('panel'):
        return ''
    parts = ['### The honest panel', _caption(results)]
    for table in panel_grids(results['panel']):
        lines = [f'| {" | ".join(line)} |' for line in table.grid]
        rule = f'|---|{"---:|" * (len(table.grid[0]) - 1)}'
        parts += [f'**{table.title}**', '\n'.join([lines[0], rule, *lines[1:]])]
    parts.append('\n'.join(f'- {line}' for line in [*_findings(results), results.get('panel_rule', '')] if line))
    return '\n' + '\n\n'.join(parts) + '\n'


def panel_text(results: Mapping[str, Any], width: int) -> str:
    """The same for a terminal of `width` columns (at least 20)."""
    if not results.get('panel'):
        return ''
    width = max(width, 20)
    parts = ['\n'.join(['THE HONEST PANEL', *textwrap.wrap(_caption(results), width)])]
    for table in panel_grids(results['panel']):
        grid = table.grid
        heads = [list(line) for line in zip(*(f'{head}, '.split(', ')[:2] for head in grid[0]), strict=True)]
        lines = _aligned([*(head for head in heads if any(head)), *grid[1:]])
        if max(map(len, lines)) > width:  # a line per number
            pairs = ((line[0], *pair) for line in grid[1:] for pair in zip(grid[0][1:], line[1:], strict=True))
            lines = [line for words in pairs for line in textwrap.wrap('{}, {}: {}'.format(*words), width)]
        parts.append('\n'.join([*textwrap.wrap(table.title, width), *lines]))
    found = [textwrap.fill(line, width, initial_indent='- ', subsequent_indent='  ') for line in _findings(results)]
    return '\n\n'.join([*parts, '\n'.join(found)]) + '\n'


def _aligned(grid: Grid) -> list[str]:
    widths = [max(map(len, texts)) for texts in zip(*grid, strict=True)]
    return ['  '.join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip() for line in grid]


def _caption(results: Mapping[str, Any]) -> str:
    target = results['panel'][0]['target']
    note = results.get('panel_note', '')
    return f'Dice by how it is read; target {TARGETS.get(target, target)}. {note}'.strip()


def _of_network(panel: Sequence[Row], model: str) -> Panel:
    """Averages and rules down, resolutions and slice sets across."""
    values = {_key(row): row['dice'] for row in panel if row['model'] == model}
    readings = [each for each in READINGS if any(key[:2] == each for key in values)]
    grid = [['', *(f'{TITLES[resolution]}, {TITLES[slices]}' for resolution, slices in readings)]]
    for average, rules in (('image', tuple(RULES)), ('case', tuple(RULES)), ('pooled', ('left_out',))):
        for rule in rules:
            name = _average({'average': average, 'empty_rule': rule})
            grid.append([name, *(_number(values.get((*each, average, rule))) for each in readings)])
    span, ends = _span(panel, model)
    names = [line[0] for line in grid]
    places = [(names.index(_average(row)), 1 + readings.index(_key(row)[:2])) for row in ends]
    return Panel(NAMES[model], grid, readings, span, places)


def _beside(panel: Sequence[Row]) -> Panel:
    """Networks, baselines and ceiling in the strictest reading, empties left out."""
    there = {(row['resolution'], row['slices']) for row in panel}
    resolution, slices = next(each for each in reversed(READINGS) if each in there)
    grid = [['', 'per image', 'per case', 'pooled']]
    for model in dict.fromkeys(row['model'] for row in panel):
        values = {_key(row): row['dice'] for row in panel if row['model'] == model}
        own = [values.get((resolution, slices, average, 'left_out')) for average in ('image', 'case', 'pooled')]
        if any(value is not None for value in own):
            grid.append([_name(model), *map(_number, own)])
    return Panel(f'Beside what needs no network ({TITLES[resolution]}, {TITLES[slices]}, empty left out)', grid)


def _findings(results: Mapping[str, Any]) -> list[str]:
    lines = []
    if paired := results.get('paired'):
        lines.append(f'{paired["metric"]}: {paired["verdict"]}.')
        if paired['left_out']:
            lines.append(f'Left out, undefined in one of the networks: {", ".join(paired["left_out"])}.')
        if len(paired['mean_by_seed']) > 1:
            lines.append(f'{paired["of"]} by seed: {", ".join(f"{mean:+.4f}" for mean in paired["mean_by_seed"])}.')
    for model, found in results.get('patient_dice', {}).items():
        interval = f'95 % interval {_number(found["low"])} to {_number(found["high"])}, {found["patients"]} patients'
        interval = interval if found['patients'] > 1 else 'no interval: one patient'
        lines.append(f'{_name(model)}: {_number(found["mean"])} ({interval}), {found["metric"]}.')
    calibration = results.get('calibration', {})
    for model, found in ({results['model']: calibration} if 'bins' in calibration else calibration).items():
        scaled = found['with_temperature']
        after = f'; with temperature {found["temperature"]:.2f} from validation: ECE {_number(scaled["ece"])}'
        after = after if found['temperature'] == found['temperature'] else ''
        liver = f' (in the liver {_number(found["in_liver"]["ece"])})' if 'in_liver' in found else ''
        lines.append(f'{_name(model)}: ECE {_number(found["ece"])}{liver}, Brier {_number(found["brier"])}{after}.')
    return lines


def _span(panel: Sequence[Row], model: str) -> tuple[str, list[Row]]:
    rows = [row for row in panel if row['model'] == model and row['dice'] is not None and math.isfinite(row['dice'])]
    if not rows:
        return 'undefined in every reading', []
    low, high = min(rows, key=lambda row: row['dice']), max(rows, key=lambda row: row['dice'])
    return f'{_number(low["dice"])} ({_words(low)}) to {_number(high["dice"])} ({_words(high)})', [low, high]


def _words(row: Row) -> str:
    average = row['average'] if row['average'] == 'pooled' else f'per {row["average"]}'
    return f'{average}, {TITLES[row["resolution"]]}, {TITLES[row["slices"]]}, {RULES[row["empty_rule"]]}'


def _average(row: Row) -> str:
    """Average and rule, as the rows of a network's table are called."""
    return 'pooled' if row['average'] == 'pooled' else f'per {row["average"]}, {RULES[row["empty_rule"]]}'


def _key(row: Row) -> tuple[str, str, str, str]:
    return row['resolution'], row['slices'], row['average'], row['empty_rule']


def _name(model: str) -> str:
    if model.endswith(FITTED):
        return f'{_name(model.removesuffix(FITTED))}, fitted'
    return NAMES.get(model, model.replace('_', ' '))


def _number(value: float | None) -> str:
    return UNDEFINED if value is None or not math.isfinite(value) else f'{value:.4f}'
