"""The panel as text and Markdown: every number at its place, nothing over the width, words for what it means."""

import pytest

from liver_jax.evaluation.panel import AVERAGES, EMPTY_RULES, RESOLUTIONS, SLICES
from liver_jax.report.panel_table import panel_markdown, panel_text

NAN = float('nan')


def rows(model, start, resolutions=RESOLUTIONS, slices=SLICES):
    """Distinct numbers: start, start + .0001, …"""
    readings = [
        {'target': 'tumor', 'average': average, 'resolution': resolution, 'slices': which, 'empty_rule': rule}
        for resolution in resolutions
        for which in slices
        for average in AVERAGES
        for rule in EMPTY_RULES
    ]
    return [{**row, 'model': model, 'dice': start + number / 10_000} for number, row in enumerate(readings)]


RESULTS = {
    'panel': [
        *rows('unet', 0.1), *rows('resunet', 0.2), *rows('all_zero', 0.0),
        *rows('ceiling_soft', 0.9, ('native',)), *rows('unet_fitted', 0.3, ('native',)),
    ],
    'panel_note': 'A note.',
    'panel_rule': 'What the words mean.',
    'patient_dice': {'unet': {'metric': 'Dice per patient', 'mean': 0.5, 'low': 0.4, 'high': NAN, 'patients': 7}},
    'paired': {
        'metric': 'Dice per patient', 'verdict': 'no significant difference: by a hair', 'left_out': ['p3'],
        'of': 'ResU-Net minus U-Net', 'mean_by_seed': [0.01, -0.02],
    },
    'calibration': {
        'unet': {'bins': [], 'ece': 0.0123, 'brier': 0.0456, 'temperature': 1.5, 'with_temperature': {'ece': 0.0011}},
        'resunet': {'bins': [], 'ece': 0.2, 'brier': 0.3, 'temperature': NAN, 'with_temperature': {'ece': NAN}},
    },
}  # fmt: skip


def line(text, start):
    (found,) = (each for each in text.splitlines() if each.startswith(start))
    return found.split()


def test_every_reading_is_in_its_row_and_column():
    text = panel_text(RESULTS, 100)
    unet = text[text.index('U-Net: 0.1000') : text.index('ResU-Net: 0.2000')]
    # Per resolution and slice set nine numbers: image, case, pooled by three rules.
    assert line(unet, 'per image, empty left out')[-4:] == ['0.1000', '0.1009', '0.1018', '0.1027']
    assert line(unet, 'per case, empty is 0')[-4:] == ['0.1005', '0.1014', '0.1023', '0.1032']
    assert line(unet, 'pooled')[-4:] == ['0.1006', '0.1015', '0.1024', '0.1033']
    assert '0.1000 (per image, network grid, with tumour, empty left out) to 0.1035 (pooled' in ' '.join(unet.split())
    beside = text[text.index('Beside what needs no network') :]
    assert line(beside, 'ceiling, soft masks')[-3:] == ['0.9009', '0.9012', '0.9015']
    assert line(beside, 'U-Net, fitted')[-3:] == ['0.3009', '0.3012', '0.3015']
    assert line(beside, 'all zero')[-3:] == ['0.0027', '0.0030', '0.0033']


def test_the_findings_are_said_in_words():
    for text in (' '.join(panel_text(RESULTS, 100).split()), panel_markdown(RESULTS)):
        assert 'Dice per patient: no significant difference: by a hair.' in text
        assert 'undefined in one of the networks: p3.' in text
        assert 'ResU-Net minus U-Net by seed: +0.0100, -0.0200.' in text
        assert 'U-Net: 0.5000 (95 % interval 0.4000 to –, 7 patients)' in text
        assert 'ECE 0.0123, Brier 0.0456; with temperature 1.50 from validation: ECE 0.0011.' in text
        assert 'ResU-Net: ECE 0.2000, Brier 0.3000.' in text
        assert 'target tumour. A note.' in text
    assert panel_markdown(RESULTS).endswith('- What the words mean.\n')
    found = RESULTS['patient_dice']['unet'] | {'patients': 1, 'low': NAN, 'high': NAN}
    pixels = RESULTS['calibration']['unet'] | {'in_liver': {'ece': 0.25}}
    few = panel_markdown(RESULTS | {'patient_dice': {'unet': found}, 'calibration': {'unet': pixels}})
    assert 'U-Net: 0.5000 (no interval: one patient), ' in few
    assert 'U-Net: ECE 0.0123 (in the liver 0.2500), Brier' in few


def test_markdown_tables_have_as_many_cells_in_every_row():
    tables = [line for line in panel_markdown(RESULTS).splitlines() if line.startswith('|')]
    heads = [f'{grid} grid, {which}' for grid in ('network', 'native') for which in ('with tumour', 'all slices')]
    assert f'|  | {" | ".join(heads)} |' in tables
    for row in tables:
        assert row.count('|') in (5, 6)


@pytest.mark.parametrize('width', [20, 40, 60, 80])
def test_no_line_is_longer_than_the_terminal(width):
    text = panel_text(RESULTS, width)
    assert max(map(len, text.splitlines())) <= width
    assert '0.1033' in text
    assert '0.9015' in text


def test_without_scans_only_what_there_is():
    text = panel_text({'panel': rows('unet', 0.1, ('network',), ('tumor',))}, 100)
    assert 'native' not in text
    assert 'all slices' not in text
    assert line(text, 'pooled') == ['pooled', '0.1006']


def test_a_single_network_has_its_calibration_flat():
    single = {'panel': rows('unet', 0.1), 'model': 'unet', 'calibration': RESULTS['calibration']['unet']}
    assert 'U-Net: ECE 0.0123' in panel_text(single, 100)


def test_no_panel_no_text():
    assert panel_text({'protocol': {}}, 80) == panel_markdown({}) == ''
    undefined = [{**row, 'dice': None} for row in rows('unet', 0.1)]
    assert 'undefined in every reading' in panel_text({'panel': undefined}, 80)
