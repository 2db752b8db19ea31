"""The comparison as Markdown and as terminal text: every number in its column, nothing over the width."""

import math
import re
from typing import Any

import pytest

from liver_jax.report.tables import comparison_markdown, comparison_text, evaluation_text

STUDY = ['dice_image', 'iou_image', 'ssim', 'precision_pooled', 'recall_pooled', 'f1_pooled']
CASE = ['dice_case', 'iou_case', 'ssim_case', 'precision_case', 'recall_case', 'f1_case']
WARNING = 'slice split: neighbouring slices of one patient are on both sides'


def make_scores(first: float) -> dict[str, Any]:
    """Twelve distinct scores: first, first + 0.0001, …; and a pooled Dice that no table shows."""
    return {key: first + index / 10_000 for index, key in enumerate(STUDY + CASE)} | {'dice_pooled': 0.1111}


def make_comparison(warning: str = '') -> dict[str, Any]:
    counts = {
        'train': {'patients': 8, 'slices': 3000},
        'val': {'patients': 1, 'slices': 40},
        'test': {'patients': 2, 'slices': 90},
    }
    return {
        'protocol': {
            'target': 'tumor',
            'slices': 'tumor',
            'split': 'patient',
            'image_size': 128,
            'threshold': 0.5,
            'seed': 7,
            'counts': counts,
            'warning': warning,
            'empty_rule': 'A slice with both masks empty has no Dice and is left out of the mean.',
        },
        'models': {
            'unet': make_scores(0.9465) | {'parameters': 7_765_985, 'gflops': 3.4567, 'best_step': 1200},
            'resunet': make_scores(0.9621) | {'parameters': 8_100_001, 'gflops': None, 'best_step': None},
        },
        'baselines': {'all_zero': make_scores(0.0) | {'dice_image': math.nan, 'precision_pooled': None}},
    }


def markdown_tables(text: str) -> list[list[list[str]]]:
    """Tables, rows, cells."""
    blocks = [block.splitlines() for block in text.split('\n\n') if block.startswith('|')]
    return [[[cell.strip() for cell in line.strip('|').split('|')] for line in block] for block in blocks]


def test_markdown_numbers_stand_in_their_columns() -> None:
    study, case, cost = markdown_tables(comparison_markdown(make_comparison()))
    assert study[0] == [
        '',
        'Dice (image)',
        'IoU (image)',
        'SSIM (image)',
        'Precision (pooled)',
        'Recall (pooled)',
        'F1 (pooled)',
    ]
    assert study[2] == ['U-Net', '0.9465', '0.9466', '0.9467', '0.9468', '0.9469', '0.9470']
    assert study[3] == ['ResU-Net', '0.9621', '0.9622', '0.9623', '0.9624', '0.9625', '0.9626']
    assert study[4] == ['all zero', '–', '0.0001', '0.0002', '–', '0.0004', '0.0005']
    assert case[0] == ['', 'Dice (case)', 'IoU (case)', 'SSIM (case)', 'Precision (case)', 'Recall (case)', 'F1 (case)']
    assert case[2] == ['U-Net', '0.9471', '0.9472', '0.9473', '0.9474', '0.9475', '0.9476']
    assert cost[2] == ['U-Net', '7,765,985', '3.457', '1,200']
    assert cost[3] == ['ResU-Net', '8,100,001', '–', '–']
    assert len(cost) == 4, 'a baseline has no parameters to list'


def test_markdown_tables_have_equal_column_counts() -> None:
    comparison = make_comparison()
    del comparison['models']['unet']['recall_pooled']
    for table in markdown_tables(comparison_markdown(comparison)):
        assert len({len(row) for row in table}) == 1
        assert all(re.fullmatch('-+:?', cell) for cell in table[1])
    assert '| U-Net | 0.9465 | 0.9466 | 0.9467 | 0.9468 | – | 0.9470 |' in comparison_markdown(comparison)


def test_warning_comes_first_and_only_when_there_is_one() -> None:
    assert comparison_markdown(make_comparison(WARNING)).startswith(f'> **Warning: {WARNING}**\n')
    first, second = comparison_text(make_comparison(WARNING), 120).splitlines()[:2]
    assert (first, second) == ('!' * 120, f'WARNING: {WARNING}')
    for text in (comparison_markdown(make_comparison()), comparison_text(make_comparison(), 80)):
        assert 'warning' not in text.lower()
        assert '!' not in text


@pytest.mark.parametrize('width', [60, 80, 120])
def test_text_keeps_every_number_and_the_width(width: int) -> None:
    text = comparison_text(make_comparison(WARNING), width)
    assert max(len(line) for line in text.splitlines()) <= width
    rows = [line.split() for line in text.splitlines() if line.startswith('U-Net')]
    assert rows == [
        ['U-Net', '0.9465', '0.9466', '0.9467', '0.9468', '0.9469', '0.9470'],
        ['U-Net', '0.9471', '0.9472', '0.9473', '0.9474', '0.9475', '0.9476'],
        ['U-Net', '7,765,985', '3.457', '1,200'],
    ]


def test_text_columns_end_below_their_headings() -> None:
    lines = comparison_text(make_comparison(), 60).splitlines()
    start = next(index for index, line in enumerate(lines) if line.split()[:2] == ['Dice', 'IoU'])
    heading, average, unet, resunet, all_zero = lines[start : start + 5]
    ends = [match.end() for match in re.finditer(r'\S+', heading)]
    assert average.split() == ['image'] * 3 + ['pooled'] * 3
    for line, name in ((average, ''), (unet, 'U-Net'), (resunet, 'ResU-Net'), (all_zero, 'all zero')):
        offset = len(name)
        assert line.startswith(name)
        assert [match.end() + offset for match in re.finditer(r'\S+', line[offset:])] == ends


def test_narrow_text_names_what_it_leaves_out() -> None:
    lines = comparison_text(make_comparison(), 40).splitlines()
    assert max(map(len, lines)) <= 40
    assert 'U-Net     0.9465  0.9466  0.9467  0.9468' in lines
    assert '(too narrow for: Recall, F1)' in lines


def test_a_number_is_never_cut() -> None:
    comparison = make_comparison()
    comparison['baselines'] = {'whole_liver_mask': make_scores(0.5)}
    lines = comparison_text(comparison, 0).splitlines()
    assert max(map(len, lines)) <= 20
    assert 'whole liver mask' in lines
    assert [line for line in lines if re.search(r'0\.\d{0,3}$', line)] == []


def test_protocol_is_told_in_words() -> None:
    text = comparison_markdown(make_comparison())
    for line in (
        '- Target: tumour.',
        '- Slices: only slices with tumour, 128×128 pixels.',
        '- Split by patient: train 8 patients, 3,000 slices; val 1 patient, 40 slices; test 2 patients, 90 slices.',
        '- Threshold on the probability: 0.5. Seed: 7.',
        '- Empty masks: A slice with both masks empty has no Dice and is left out of the mean.',
    ):
        assert line in text.splitlines()
    assert 'Dice, IoU and SSIM: mean over images.' in text
    assert 'Precision, recall and F1: pooled over all pixels' in text


def test_one_network_without_baseline() -> None:
    comparison = make_comparison()
    del comparison['models']['resunet'], comparison['baselines']
    assert [row[0] for row in markdown_tables(comparison_markdown(comparison))[0][2:]] == ['U-Net']


def test_an_evaluation_tells_its_split_its_warning_and_what_is_left_out() -> None:
    results: dict[str, Any] = {
        'model': 'unet', 'summary': make_scores(0.9465), 'target': 'tumor', 'image_size': 128, 'step': 12,
        'split': 'external', 'images': [1, 2], 'threshold': 0.5, 'empty_rule': 'Left out.',
        'warning': '',
    }  # fmt: skip
    plain = evaluation_text(results, 200)
    assert 'WARNING' not in plain
    assert 'Left out of the score' not in plain
    results |= {
        'warning': WARNING,
        'certificate': {'sentence': 'split by patient: 4/1/1 patients, no patient and no volume in two parts'},
        'left_out': [{'case': 'volume-9', 'part': 'val', 'same_as': 'volume-1'}],
    }
    lines = evaluation_text(results, 200).splitlines()
    assert lines[1] == f'WARNING: {WARNING}'
    assert 'Split by patient: 4/1/1 patients, no patient and no volume in two parts.' in lines
    assert 'Left out of the score: volume-9 (in validation, as volume-1).' in lines
