"""What `liver-jax inspect` found, for people: a table with what is wrong below it, and a sheet of pictures."""

import json
import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from liver_jax.data.inspect import Snapshot
from liver_jax.files import write_atomically
from liver_jax.report.figures import save_png

COLOURS = {'ok': '#5DD39E', 'warn': '#F5B942', 'refuse': '#FF6B5E'}
LIVER, TUMOR = '#56B4E9', '#F0E442'
COLUMNS = 6  # pictures in a row
CELL, HEAD, FOOT = 2.0, 0.36, 0.45  # inches: a picture, the words above it, the legend
# Heading and what stands below it; from the right, columns that a narrow terminal has no room for are left out.
_COLUMNS = ('case', 'verdict', 'patient', 'slices', 'mm', 'HU', 'liver HU', 'liver ml', 'tumour ml', 'lesions', 'axes')
_LEFT = ('case', 'verdict', 'patient')


def write_inspection(
    report: Mapping[str, Any], snapshots: Sequence[Snapshot], json_file: str, sheet: str, width: int
) -> list[str]:
    """Write the files asked for (empty: not); returns what to print: JSON where `json_file` is '-', else the table."""
    lines = [json.dumps(report, indent=1)] if json_file == '-' else [inspection_text(report, width)]
    if json_file not in ('', '-'):
        write_atomically(Path(json_file).expanduser(), json.dumps(report, indent=1) + '\n')
    if sheet:
        draw_sheet(Path(sheet).expanduser(), report, snapshots)
    written = [f'written: {file}' for file in (json_file, sheet) if file not in ('', '-')]
    return lines if json_file == '-' else lines + written


def inspection_text(report: Mapping[str, Any], width: int) -> str:
    """The report of `inspect_folder` for a terminal of `width` columns."""
    width = max(width, 20)
    cases = report['cases']
    parts = ['\n'.join(_table([_row(case) for case in cases], width))]
    marked = [case for case in cases if case['reasons']]
    if marked:
        parts.append('\n'.join(line for case in marked for line in _reasons(case, width)))
    parts.append('\n'.join(_patient_lines(report, width)))
    counts = ', '.join(
        f'{sum(case["verdict"] == verdict for case in cases)} {word}'
        for verdict, word in (('ok', 'ok'), ('warn', 'with a warning'), ('refuse', 'refused'))
    )
    parts.append(textwrap.fill(f'{len(cases)} case{"s" * (len(cases) != 1)}: {counts}', width))
    return '\n\n'.join(parts)


def draw_sheet(path: Path, report: Mapping[str, Any], snapshots: Sequence[Snapshot]) -> None:
    """Write a PNG with a slice of every readable case, outlines of liver and tumour drawn, verdict in its colour."""
    verdicts = {case['case']: case['verdict'] for case in report['cases']}
    columns = min(COLUMNS, max(len(snapshots), 2))
    rows = max(1, math.ceil(len(snapshots) / columns))
    wide, high = columns * CELL, rows * (CELL + HEAD) + FOOT
    figure = Figure(figsize=(wide, high), facecolor='black')
    for number, snapshot in enumerate(snapshots):
        row, column = divmod(number, columns)
        bottom = high - (row + 1) * (CELL + HEAD)
        axes = figure.add_axes((column * CELL / wide + 0.002, bottom / high, (CELL - 0.03) / wide, CELL / high))
        axes.imshow(snapshot.image, cmap='gray', vmin=0, vmax=255)
        for mask, colour in ((snapshot.liver, LIVER), (snapshot.tumor, TUMOR)):
            if (mask >= 128).any() and not (mask >= 128).all():
                axes.contour(mask, levels=[127.5], colors=colour, linewidths=0.8)
        axes.set_axis_off()
        verdict = verdicts[snapshot.case]
        name = snapshot.case if len(snapshot.case) < 20 else f'{snapshot.case[:8]}…{snapshot.case[-9:]}'
        for offset, text, colour in (
            (0.19, name, 'white'),
            (0.04, f'{verdict}, slice {snapshot.index}', COLOURS[verdict]),
        ):
            figure.text(
                (column * CELL + 0.04) / wide, (bottom + CELL + offset) / high, text, color=colour, fontsize=7.5
            )
    window = '{:g} to {:g} HU'.format(*report['window'])
    words = f'{len(snapshots)} of {len(verdicts)} cases; slice with most tumour, or liver; {window}'
    figure.text(0.08 / wide, 0.24 / high, words, color='white', fontsize=7)
    figure.text(0.08 / wide, 0.08 / high, 'outlined: liver', color=LIVER, fontsize=7)
    figure.text(1.0 / wide, 0.08 / high, 'tumour', color=TUMOR, fontsize=7)
    save_png(figure, path)


def _row(case: Mapping[str, Any]) -> dict[str, str]:
    row = dict.fromkeys(_COLUMNS, '–')
    row |= {'case': case['case'], 'verdict': case['verdict'], 'patient': case['patient']}
    if 'shape' not in case:
        return row
    low, high = case['hu_range']
    z, _, x = case['spacing_mm']
    placed = case['liver_ml'] is not None
    row |= {
        'slices': str(case['size'][0]),
        'mm': f'{x:.2f} × {z:.2f}' if placed else '–',
        'HU': f'{low:.0f} … {high:.0f}',
        'liver HU': '–' if case['liver_hu'] is None else f'{case["liver_hu"]:.0f}',
        'liver ml': f'{case["liver_ml"]:,.0f}' if placed else '–',
        'tumour ml': f'{case["tumor_ml"]:,.1f}' if placed else '–',
        'lesions': str(case['lesions']),
        'axes': case['orientation'] if placed else '–',
    }
    return row


def _table(rows: Sequence[Mapping[str, str]], width: int) -> list[str]:
    columns = list(_COLUMNS)
    while True:
        widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in columns}
        if sum(widths.values()) + 2 * (len(columns) - 1) <= width or len(columns) == 2:
            break
        columns.pop()
    lines = []
    for row in [dict(zip(_COLUMNS, _COLUMNS, strict=True)), *rows]:
        cells = (row[c].ljust(widths[c]) if c in _LEFT else row[c].rjust(widths[c]) for c in columns)
        lines.append('  '.join(cells).rstrip())
    if len(columns) < len(_COLUMNS):
        lines += textwrap.wrap(f'(too narrow for: {", ".join(_COLUMNS[len(columns) :])})', width)
    return lines


def _reasons(case: Mapping[str, Any], width: int) -> list[str]:
    head = f'{case["case"]} ({case["verdict"]}): '
    return textwrap.wrap(head + '; '.join(case['reasons']), width, subsequent_indent='    ', break_on_hyphens=False)


def _patient_lines(report: Mapping[str, Any], width: int) -> list[str]:
    groups = report['patients']
    patients = 'patient' if len(groups) == 1 else 'patients'
    lines = textwrap.wrap(f'{len(groups)} {patients}, {report["source"]}', width)
    for group in groups:
        sure = '' if group['sure'] == 'given' else f', {group["sure"]}'
        if len(group['cases']) > 1:
            alike = '' if group['similarity'] is None else f' (similarity {group["similarity"]:.2f}{sure})'
            lines += textwrap.wrap(f'  {group["patient"]}: {", ".join(group["cases"])}{alike}', width)
    for one, other, alike in report['look_alikes']:
        lines += textwrap.wrap(f'  {one} and {other} look alike (similarity {alike:.2f}): perhaps one patient', width)
    unknown = sum(group['sure'] == 'unknown' for group in groups)
    if unknown:
        lines += textwrap.wrap(f'  of {unknown} the anatomy cannot tell: too small, or not readable', width)
    return lines
