"""What `liver-jax score` found, for the terminal."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

# Score, its heading, its style; from the right, columns that a narrow terminal has no room for are left out.
COLUMNS = (
    ('dice', 'Dice', '.4f'), ('voe', 'VOE', '.4f'), ('rvd', 'RVD', '.3f'), ('assd', 'ASSD', '.2f'),
    ('msd', 'MSD', '.2f'), ('hd95', 'HD95', '.2f'), ('nsd_2mm', 'NSD 2', '.4f'),
)  # fmt: skip
TARGETS = {'tumor': 'TUMOUR', 'liver': 'LIVER (with tumour)'}
UNDEFINED = '–'


def score_text(results: Mapping[str, Any], width: int) -> str:
    """The results of `score_folders` for a terminal of `width` columns: a table per target, lesions, what failed."""
    width = max(width, 30)
    notes = (note if note.startswith('WARNING') else f'Note: {note}' for note in results['notes'])
    parts = [textwrap.fill(note, width, subsequent_indent='  ') for note in notes]
    for target, title in TARGETS.items():
        if f'{target}.dice' in results['mean']:
            parts.append('\n'.join([f'{title}, distances in mm', *_table(results, target, width)]))
    if 'lesion.dice' in results['global']:
        parts.append('\n'.join(textwrap.fill(line, width, subsequent_indent='  ') for line in _lesion_lines(results)))
    parts.append(textwrap.fill(f'Labels: {results["labels"]}.', width))
    if results['mean']:
        parts.append(textwrap.fill(f'{UNDEFINED}: undefined, left out of means. {results["rules"]["empty"]}', width))
    if results['failed']:
        lines = [textwrap.fill(each['reason'], width, subsequent_indent='  ') for each in results['failed']]
        parts.append('\n'.join(['NOT SCORED', *lines]))
    return '\n\n'.join(parts)


def _table(results: Mapping[str, Any], target: str, width: int) -> list[str]:
    rows = [_row(case['case'], case, target) for case in results['cases']]
    for name, part in (('', {**results, 'cases': len(rows)}), (', unseen', results.get('unseen'))):
        if part:
            rows += [_mean_row(f'mean{name}', part, target), _row(f'global{name}', part['global'], target)]
    grid = [['', *(heading for _, heading, _ in COLUMNS)], *rows]
    for column in range(1, len(grid[0])):  # numbers under numbers: the room of '(4 of 6)' is left to all
        room = max(len(row[column].partition(' (')[2]) for row in rows)
        for row in grid if room else ():
            value, _, of = row[column].partition(' (')
            row[column] = value + (f' ({of}' if of else ' ' * (room + 2))
    widths = [max(map(len, texts)) for texts in zip(*grid, strict=True)]
    shown = len(widths)
    while sum(widths[:shown]) + 2 * (shown - 1) > width and shown > 2:
        shown -= 1
    lines = ['  '.join([row[0].ljust(widths[0]), *map(str.rjust, row[1:shown], widths[1:shown])]) for row in grid]
    left_out = ', '.join(heading for _, heading, _ in COLUMNS[shown - 1 :])
    return [*map(str.rstrip, lines), *(textwrap.wrap(f'(too narrow for: {left_out})', width) if left_out else [])]


def _row(name: str, scores: Mapping[str, Any], target: str) -> list[str]:
    return [name, *(_cell(scores.get(f'{target}.{key}'), style) for key, _, style in COLUMNS)]


def _mean_row(name: str, together: Mapping[str, Any], target: str) -> list[str]:
    """Means, with how many cases they are of where these are not all."""
    cells = _row(name, together['mean'], target)[1:]
    counts = [together['count'][f'{target}.{key}'] for key, _, _ in COLUMNS]
    whole = together['cases']
    told = (f'{cell} ({n} of {whole})' if 0 < n < whole else cell for cell, n in zip(cells, counts, strict=True))
    return [name, *told]


def _lesion_lines(results: Mapping[str, Any]) -> Sequence[str]:
    scores = results['global']
    lines = [f'LESIONS of all cases: mean Dice {_cell(scores["lesion.dice"])}, PQ {_cell(scores["lesion.pq"])}']
    for rule, words in (('iou0', 'IoU > 0'), ('iou50', 'IoU > 0.5'), ('lits', 'IoU > 0.5, pieces joined as in LiTS')):
        values = ', '.join(f'{name} {_cell(scores[f"lesion.{name}_{rule}"])}' for name in ('precision', 'recall', 'f1'))
        lines.append(f'{words}: {values}')
    lines.append(f'False positives per case (IoU > 0): {_cell(scores["lesion.false_positives_per_case"], ".2f")}')
    if results['count']['tumor.false_positive_ml']:
        spilt, cases = (results[part]['tumor.false_positive_ml'] for part in ('mean', 'count'))
        lines.append(f'Cases without tumour: {cases}, predicted there on average {_cell(spilt, ".2f")} ml')
    sizes = (('under_10mm', '< 10 mm'), ('10_to_20mm', '10–20 mm'), ('over_20mm', '> 20 mm'))
    by_size = ', '.join(f'{words} {_cell(scores[f"lesion.f1_iou0_{size}"])}' for size, words in sizes)
    lines.append(f'F1 by size (IoU > 0): {by_size}')
    if 'burden.rmse' in scores:
        lines.append(f'Tumour burden: RMSE {_cell(scores["burden.rmse"])}, largest error {_cell(scores["burden.max"])}')
    if found := results.get('froc'):
        points = zip(found['sensitivity'], found['false_positives'], strict=True)
        at = ', '.join(f'{_cell(sensitivity, ".3f")} at {per_scan:g}' for sensitivity, per_scan in points)
        lines.append(f'FROC, {found["scans"]} scans: score {_cell(found["score"])}; sensitivity {at} false positives')
    return lines


def _cell(value: float | None, style: str = '.4f') -> str:
    return UNDEFINED if value is None or value != value else format(value, style)
