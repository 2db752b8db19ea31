"""Scores of whole scans in a compact table: Markdown for files, plain text for the terminal."""

import textwrap
from collections.abc import Mapping
from typing import Any

from liver_jax.report.tables import DISPLAY_NAMES, UNDEFINED

# What a score is called, where it lies (part of a network's results, key), its style; '{}' is the target's name.
ROWS = (
    ('Dice per case', 'mean', '{}.dice', '.4f'),
    ('Dice, all voxels pooled', 'global', '{}.dice', '.4f'),
    ('VOE', 'mean', '{}.voe', '.4f'),
    ('RVD', 'mean', '{}.rvd', '+.4f'),
    ('ASSD, mm', 'mean', '{}.assd', '.2f'),
    ('MSD, mm', 'mean', '{}.msd', '.2f'),
    ('RMSD, mm', 'mean', '{}.rmsd', '.2f'),
    ('95 % Hausdorff, mm', 'mean', '{}.hd95', '.2f'),
    ('surface Dice at 1 mm', 'mean', '{}.nsd_1mm', '.4f'),
    ('surface Dice at 2 mm', 'mean', '{}.nsd_2mm', '.4f'),
    ('false-positive volume, ml', 'mean', 'tumor.false_positive_ml', '.2f'),
    ('lesion recall, IoU > 0', 'global', 'lesion.recall_iou0', '.4f'),
    ('lesion precision, IoU > 0', 'global', 'lesion.precision_iou0', '.4f'),
    ('lesion F1, IoU > 0', 'global', 'lesion.f1_iou0', '.4f'),
    ('false-positive lesions per scan', 'global', 'lesion.false_positives_per_case', '.2f'),
    ('lesion recall, IoU > 0.5', 'global', 'lesion.recall_lits', '.4f'),
    ('lesion precision, IoU > 0.5', 'global', 'lesion.precision_lits', '.4f'),
    ('lesion F1, < 10 mm', 'global', 'lesion.f1_iou0_under_10mm', '.4f'),
    ('lesion F1, 10–20 mm', 'global', 'lesion.f1_iou0_10_to_20mm', '.4f'),
    ('lesion F1, > 20 mm', 'global', 'lesion.f1_iou0_over_20mm', '.4f'),
    ('panoptic quality', 'global', 'lesion.pq', '.4f'),
    ('FROC score', 'froc', 'score', '.4f'),
    ('tumour burden, RMSE', 'global', 'burden.rmse', '.4f'),
    ('tumour burden, largest error', 'global', 'burden.max', '.4f'),
)
TITLE = 'Whole scans at native resolution'


def volumes_markdown(results: Mapping[str, Any]) -> str:
    """The `volumes` of a comparison or an evaluation as Markdown; a sentence where there are none."""
    if 'volumes' not in results:
        return ''
    grid, words = volumes_grid(results['volumes']), volumes_words(results['volumes'])
    lines = [f'| {" | ".join(line)} |' for line in grid]
    table = [lines[0], f'|---|{"---:|" * (len(grid[0]) - 1)}', *lines[1:]] if grid else []
    return '\n' + '\n\n'.join([f'### {TITLE}', '\n'.join(table), words] if table else [f'### {TITLE}', words]) + '\n'


def volumes_text(results: Mapping[str, Any], width: int) -> str:
    """The same for a terminal of `width` columns (at least 20)."""
    if 'volumes' not in results:
        return ''
    width = max(width, 20)
    grid = volumes_grid(results['volumes'])
    widths = [max(map(len, texts)) for texts in zip(*grid, strict=True)]
    lines = ['  '.join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip() for line in grid]
    if any(len(line) > width for line in lines):  # a line per number
        pairs = [(line[0], *pair) for line in grid[1:] for pair in zip(grid[0][1:], line[1:], strict=True)]
        lines = [part for words in pairs for part in textwrap.wrap('{}, {}: {}'.format(*words), width)]
    title, words = (textwrap.wrap(text, width) for text in (TITLE.upper(), volumes_words(results['volumes'])))
    return '\n'.join([*title, *lines, *words]) + '\n'


def volumes_grid(volumes: Mapping[str, Any]) -> list[list[str]]:
    """Scores down, networks across; scores that no network can have are left out."""
    networks = volumes['networks']
    if not networks:
        return []
    target = 'tumor' if volumes['target'] == 'tumor' else 'liver'
    grid = [['', *(DISPLAY_NAMES.get(name, name) for name in networks)]]
    for words, part, key, style in ROWS:
        key = key.format(target)
        if any(key in network.get(part, {}) for network in networks.values()):
            grid.append([words, *(_cell(network, part, key, style, volumes) for network in networks.values())])
    return grid


def _cell(network: Mapping[str, Any], part: str, key: str, style: str, volumes: Mapping[str, Any]) -> str:
    """A number; of a mean over fewer than all cases, with their number."""
    value, count = network[part][key], network['count'].get(key)
    if value is None or value != value:
        return UNDEFINED
    of = f' ({count:g} of {len(volumes["cases"])})' if part == 'mean' and count < len(volumes['cases']) else ''
    return f'{value:{style}}{of}'


def volumes_words(volumes: Mapping[str, Any]) -> str:
    """Of what the scores are, and where they are defined; why there are none."""
    if volumes['note']:
        return f'None: {volumes["note"]}.'
    cases = len(volumes['cases'])
    lesions = sum(len(case.get('lesions', ())) for case in volumes['cases'])
    of = f' with {lesions} lesion{"" if lesions == 1 else "s"}' if volumes['target'] == 'tumor' else ''
    return (
        f'{cases} scan{"" if cases == 1 else "s"}{of}, threshold {volumes["threshold"]} on the probability. IoU > 0.5 '
        'with pieces joined as in LiTS; F1 and FROC by IoU > 0. docs/scores.md defines all; every case and lesion is '
        f'in the JSON, under volumes. {UNDEFINED}: undefined.'
    )
