"""The comparison in words and tables: Markdown for files, plain text for the terminal.

Both say the same thing in the same order: the warning, the scores read as the original study read them, the
same scores per case, what the networks cost, and the protocol that the numbers depend on.
"""

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

DISPLAY_NAMES = {'unet': 'U-Net', 'resunet': 'ResU-Net', 'all_zero': 'all zero', 'hu_threshold': 'HU threshold'}
TARGETS = {'tumor': 'tumour', 'liver': 'liver', 'liver_or_tumor': 'liver or tumour (merged)'}
SLICES = {'tumor': 'only slices with tumour', 'liver': 'only slices with liver', 'all': 'all slices'}
UNDEFINED = '–'


@dataclass(frozen=True)
class Column:
    """One column: its key in the results, its heading long and short, what its values average."""

    key: str
    heading: str
    short: str
    average: str
    style: str = '.4f'


@dataclass(frozen=True)
class Table:
    """`rows` are names to scores."""

    title: str
    caption: str
    columns: Sequence[Column]
    rows: Mapping[str, Mapping[str, Any]]


STUDY_COLUMNS = (
    Column('dice_image', 'Dice', 'Dice', 'image'),
    Column('iou_image', 'IoU', 'IoU', 'image'),
    Column('ssim', 'SSIM', 'SSIM', 'image'),
    Column('precision_pooled', 'Precision', 'Prec.', 'pooled'),
    Column('recall_pooled', 'Recall', 'Recall', 'pooled'),
    Column('f1_pooled', 'F1', 'F1', 'pooled'),
)
CASE_COLUMNS = (
    Column('dice_case', 'Dice', 'Dice', 'case'),
    Column('iou_case', 'IoU', 'IoU', 'case'),
    Column('ssim_case', 'SSIM', 'SSIM', 'case'),
    Column('precision_case', 'Precision', 'Prec.', 'case'),
    Column('recall_case', 'Recall', 'Recall', 'case'),
    Column('f1_case', 'F1', 'F1', 'case'),
)
COST_COLUMNS = (
    Column('parameters', 'Parameters', 'Param.', '', ',.0f'),
    Column('gflops', 'GFLOPs per slice', 'GFLOPs', '', ',.3f'),
    Column('best_step', 'Best step', 'Step', '', ',.0f'),
)


def comparison_markdown(comparison: dict[str, Any]) -> str:
    """The comparison as Markdown, ending in a line break.

    Args:
        comparison: 'protocol' (target, slices, split, image_size, threshold, seed, counts, empty_rule,
            warning), 'models' ('unet', 'resunet' to scores and costs) and 'baselines' ('all_zero' to scores).
            A score that is missing, None or not finite is shown as '–'.
    """
    protocol = comparison['protocol']
    parts = [f'> **Warning: {protocol["warning"]}**'] if protocol.get('warning') else []
    for table in score_tables(comparison):
        parts += [f'### {table.title}', table.caption, _markdown_table(table)]
    parts += ['### Protocol', '\n'.join(f'- {line}' for line in protocol_lines(protocol))]
    return '\n\n'.join(parts) + '\n'


def comparison_text(comparison: dict[str, Any], width: int) -> str:
    """The comparison for a terminal of `width` columns (at least 20); no line is longer.

    Headings are abbreviated where the full ones do not fit; where even the short ones do not, the last
    columns are left out and named. `comparison` is that of `comparison_markdown`.
    """
    width = max(width, 20)
    protocol = comparison['protocol']
    parts = []
    if protocol.get('warning'):
        rule = '!' * width
        parts.append('\n'.join([rule, *textwrap.wrap(f'WARNING: {protocol["warning"]}', width), rule]))
    for table in score_tables(comparison):
        heading = [*textwrap.wrap(table.title.upper(), width), *textwrap.wrap(table.caption, width)]
        parts.append('\n'.join([*heading, *_text_table(table, width)]))
    lines = [
        textwrap.fill(line, width, initial_indent='- ', subsequent_indent='  ') for line in protocol_lines(protocol)
    ]
    parts.append('\n'.join(['PROTOCOL', *lines]))
    return '\n\n'.join(parts) + '\n'


def evaluation_text(results: Mapping[str, Any], width: int) -> str:
    """One network's results (`WORKDIR/evaluation/<split>.json`) for a terminal of `width` columns."""
    width = max(width, 20)
    name, scores = display_name(results['model']), results['summary']
    target, size = TARGETS.get(results['target'], results['target']), results['image_size']
    heading = textwrap.fill(
        f'{name}, step {results["step"]}, on {results["split"]}: {len(results["images"])} slices, target {target}, '
        f'{size}×{size} pixels, threshold {results["threshold"]}',
        width,
    )
    parts = ['\n'.join(['!' * width, *textwrap.wrap(f'WARNING: {results["warning"]}', width), '!' * width])]
    parts = (parts if results.get('warning') else []) + [heading]
    parts += [textwrap.fill(line, width) for line in _about_lines(results)]
    for title, columns in (('averaged as in the original study', STUDY_COLUMNS), ('per case', CASE_COLUMNS)):
        rows = {name: scores} | {display_name(key): values for key, values in results.get('baselines', {}).items()}
        table = Table(title, '', columns, rows)
        parts.append('\n'.join([title, *_text_table(table, width)]))
    parts.append(textwrap.fill(f'Empty masks: {results["empty_rule"]}', width))
    return '\n\n'.join(parts) + '\n'


def _about_lines(results: Mapping[str, Any]) -> list[str]:
    """Of which split the slices are, and which volumes were left out."""
    certificate, left_out = results.get('certificate'), results.get('left_out', [])
    parts = {'train': 'in training', 'val': 'in validation'}
    names = ', '.join(f'{case["case"]} ({parts[case["part"]]}, as {case["same_as"]})' for case in left_out)
    return [
        *([f'{_capital(certificate["sentence"])}.'] if certificate else []),
        *([f'Left out of the score: {names}.'] if left_out else []),
    ]


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def score_tables(comparison: dict[str, Any]) -> list[Table]:
    """As the original study averaged, per case, and what the networks cost."""
    models = {display_name(key): scores for key, scores in comparison['models'].items()}
    baselines = comparison.get('baselines', {})
    scored = models | {display_name(key): scores for key, scores in baselines.items()}
    return [
        Table(
            'Scores, averaged as in the original study',
            'Dice, IoU and SSIM: mean over images. Precision, recall and F1: pooled over all pixels '
            '(pooled F1 is pooled Dice).',
            STUDY_COLUMNS,
            scored,
        ),
        Table(
            'The same scores per case', 'Every score computed per case, then averaged over cases.', CASE_COLUMNS, scored
        ),
        Table(
            'The networks',
            'GFLOPs: one forward pass of one slice. Best step: where validation was best.',
            COST_COLUMNS,
            models,
        ),
    ]


def display_name(key: str) -> str:
    """What a network or baseline is called."""
    return DISPLAY_NAMES.get(key, key.replace('_', ' '))


def protocol_lines(protocol: dict[str, Any]) -> list[str]:
    """The protocol, a fact per line."""
    target, slices, size = protocol['target'], protocol['slices'], protocol['image_size']
    counts = '; '.join(f'{part} {_counted(numbers)}' for part, numbers in protocol['counts'].items())
    return [
        f'Target: {TARGETS.get(target, target)}.',
        f'Slices: {SLICES.get(slices, slices)}, {size}×{size} pixels.',
        f'Split by {protocol["split"]}: {counts}.',
        *([f'Certificate: {protocol["certificate"]["sentence"]}.'] if protocol.get('certificate') else []),
        *([f'Patients: {protocol["patients"]}.'] if protocol.get('patients') else []),
        f'Threshold on the probability: {protocol["threshold"]}. Seed: {protocol["seed"]}.',
        f'Empty masks: {protocol["empty_rule"]}',
    ]


def _counted(numbers: dict[str, int]) -> str:
    """{'patients': 1, 'slices': 300} as '1 patient, 300 slices'."""
    named = ((number, unit.removesuffix('s') if number == 1 else unit) for unit, number in numbers.items())
    return ', '.join(f'{number:,} {unit}' for number, unit in named)


def score_cell(scores: Mapping[str, Any], column: Column) -> str:
    """A score as it stands in every table."""
    value = scores.get(column.key)
    return UNDEFINED if value is None or not math.isfinite(value) else format(float(value), column.style)


def _markdown_table(table: Table) -> str:
    headings = [
        f'{column.heading} ({column.average})' if column.average else column.heading for column in table.columns
    ]
    rows = [['', *headings], ['---', *['---:'] * len(headings)]]
    for name, scores in table.rows.items():
        rows.append([name.replace('|', r'\|'), *(score_cell(scores, column) for column in table.columns)])
    return '\n'.join(f'| {" | ".join(row)} |' for row in rows)


def _text_table(table: Table, width: int) -> list[str]:
    """The fullest form of the table that fits: full headings, short ones, then fewer columns."""
    forms = [(table.columns, False)]
    forms += [(table.columns[:count], True) for count in range(len(table.columns), -1, -1)]
    for columns, short in forms:
        lines = _aligned(table.rows, columns, short)
        if max(map(len, lines)) <= width:
            break
    left_out = [column.heading for column in table.columns[len(columns) :]]
    if left_out:
        lines += textwrap.wrap(f'(too narrow for: {", ".join(left_out)})', width)
    return [line[:width] for line in lines]


def _aligned(rows: Mapping[str, Mapping[str, Any]], columns: Sequence[Column], short: bool) -> list[str]:
    """Lines with names to the left and numbers to the right of their columns, which are two spaces apart."""
    grid = [['', *(column.short if short else column.heading for column in columns)]]
    if any(column.average for column in columns):
        grid.append(['', *(column.average for column in columns)])
    grid += [[name, *(score_cell(scores, column) for column in columns)] for name, scores in rows.items()]
    widths = [max(map(len, texts)) for texts in zip(*grid, strict=True)]
    return ['  '.join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip() for line in grid]
