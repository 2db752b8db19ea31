"""Parts of the page that need no browser: lesions, run lengths, the choice of slices, tables of what others add."""

import base64
import dataclasses
import io
import json
import math

import numpy as np
import pytest
from PIL import Image

from liver_jax.report.cases import Case, grid_spacing
from liver_jax.report.charts import log_ticks, nice_ticks
from liver_jax.report.examples import worst_and_best
from liver_jax.report.lesions import Lesion, lesions_of_scan, lesions_of_slices
from liver_jax.report.markup import counted, html_table
from liver_jax.report.markup import volume as ml_in_words
from liver_jax.report.slice_data import cases_data, run_lengths, to_webp
from liver_jax.report.tables import Column, Table


def volume(*boxes, planes=4):
    """Boxes (planes, rows, columns) of ones in [planes, 8, 8]."""
    made = np.zeros((planes, 8, 8), bool)
    for box in boxes:
        made[box] = True
    return made


def test_lesions_of_slices_by_hand():
    # A lesion of 2x2x2 = 8 voxels, one of 4 in one plane, and one that is missed.
    truth = volume(np.s_[0:2, 0:2, 0:2], np.s_[0, 6:8, 0:2], np.s_[3, 7:8, 7:8])
    # Touches the first with 4 and has 2 outside; one piece covers the second; one touches none.
    predicted = volume(np.s_[0, 0:2, 0:3], np.s_[0, 6:8, 0:2], np.s_[1, 0:1, 6:8])
    lesions = lesions_of_slices(truth, np.arange(4), {'net': predicted}, np.arange(4), (5.0, 2.0, 1.0))
    assert [lesion.dice['net'] for lesion in lesions] == [0, 2 * 4 / (8 + 6), 1]
    worst, middle, _ = lesions
    assert (worst.position, worst.box) == (3, (7, 7, 8, 8))
    assert middle.volume_ml == pytest.approx(8 * 10 / 1000)
    assert middle.diameter_mm == pytest.approx(math.hypot(2 * 2, 1))  # between the middles of outer faces, rows of 2 mm


def test_a_piece_over_two_lesions_counts_whole_for_each():
    truth = volume(np.s_[0, 0:2, 0:2], np.s_[0, 0:2, 4:6], planes=1)
    predicted = volume(np.s_[0, 0:2, 0:6], planes=1)
    lesions = lesions_of_slices(truth, np.arange(1), {'net': predicted}, np.arange(1), (1, 1, 1))
    assert [lesion.dice['net'] for lesion in lesions] == [2 * 4 / (4 + 12)] * 2


def test_lesions_are_whole_though_few_slices_are_tested():
    truth = volume(np.s_[0:3, 0:2, 0:2], np.s_[2, 6:8, 6:8], planes=4)  # slices 5, 6, 8, 9: the third touches none
    indices = np.array([5, 6, 8, 9])
    lesions = lesions_of_slices(truth, indices, {'net': truth[[1, 3]]}, indices[[1, 3]], (1, 1, 1))
    assert [(lesion.volume_ml, lesion.position, lesion.dice['net']) for lesion in lesions] == [(0.008, 0, 1)]


def test_lesions_of_a_scan_are_those_that_were_scored():
    lesion = {'volume_ml': 0.5, 'diameter_mm': 12.5, 'slice': 7, 'box': [10, 20, 31, 40]}
    found = [lesion | {'dice': {'unet': 0.75, 'resunet': 0.25}}, lesion | {'dice': {'unet': 0.0, 'resunet': 0.5}}]
    lesions = lesions_of_scan({'size': [9, 100, 200], 'lesions': found}, np.array([4, 6, 7]), 50)
    # 50 rows of padding above; a pixel of the grid is 4 of the scan.
    assert lesions == [
        Lesion(0.5, 12.5, 2, (15, 5, 21, 10), {'U-Net': 0.0, 'ResU-Net': 0.5}),
        Lesion(0.5, 12.5, 2, (15, 5, 21, 10), {'U-Net': 0.75, 'ResU-Net': 0.25}),
    ]
    assert lesions_of_scan({'size': [9, 100, 200]}, np.arange(2), 50) == []


def test_volumes_and_numbers_in_words():
    shown = {0.0: '0', 0.004: '0.0040', 0.5: '0.50', 0.999: '1.0', 12.34: '12.3', 1234.5: '1,234.5'}
    assert {ml: ml_in_words(ml) for ml in shown} == shown
    assert [counted(number, 'lesion') for number in (0, 1, 1000)] == ['0 lesions', '1 lesion', '1,000 lesions']


def test_spacing_of_the_grid():
    case = {'spacing_mm': [5, 0.7, 0.8], 'shape': [512, 400, 28], 'orientation': 'LAS'}
    assert grid_spacing(case, 128) == (5, 0.7 * 4, 0.8 * 4)
    assert grid_spacing({**case, 'shape': [28, 512, 400], 'orientation': 'SLA'}, 128) == (5, 0.7 * 4, 0.8 * 4)
    assert grid_spacing({}, 128) == (1, 1, 1)


def test_run_lengths_and_pictures_come_back_exact():
    rng = np.random.default_rng(0)
    for mask in (rng.random((8, 8)) < 0.5, np.ones((8, 8), bool), np.zeros((8, 8), bool)):
        runs = run_lengths(mask)
        back = np.repeat(np.arange(len(runs)) % 2 == 1, runs) if runs else np.zeros(64, bool)
        np.testing.assert_array_equal(back.reshape(8, 8), mask)
    image = rng.integers(0, 256, (8, 8), np.uint8)
    with Image.open(io.BytesIO(base64.b64decode(to_webp(image)))) as picture:
        np.testing.assert_array_equal(np.asarray(picture.convert('L')), image)


def make_case(marked):
    """A case of six slices, noise, with a truth on the slices `marked` that the network misses."""
    truth = volume(*((k, slice(0, 2), slice(0, k + 1)) for k in marked), planes=6)
    predictions = {'U-Net': np.zeros_like(truth)}
    lesions = lesions_of_slices(truth, np.arange(6), predictions, np.arange(6), (1, 1, 1))
    images = np.random.default_rng(0).integers(0, 256, truth.shape, np.uint8)
    dice = {'U-Net': np.zeros(6)}
    return Case(
        'case-1', 'patient 1', np.arange(6), images, truth, predictions, (1, 1, 1), {'U-Net': 0}, dice, 0.1, lesions
    )


def test_the_best_cases_are_scored_above_0():
    cases = [dataclasses.replace(make_case([2]), dice={'U-Net': dice}) for dice in (0.0, 0.3, math.nan, 0.0, 0.9, 0.0)]
    worst, best = worst_and_best(cases)
    assert [case.dice['U-Net'] for case in worst] == [0, 0, 0]
    assert [case.dice['U-Net'] for case in best] == [0.9, 0.3]
    assert worst_and_best([cases[0], cases[3]]) == ([cases[0]], [])


def test_what_does_not_fit_is_left_out_the_telling_slices_last():
    cases = [make_case([2, 3]), make_case([])]
    whole = cases_data(cases, 10**9)
    assert [len(case['slices']) for case in whole] == [6, 6]
    each = len(json.dumps(whole[0]['slices'][0]))
    few = cases_data(cases, int(3.6 * each))
    assert [slice_['index'] for slice_ in few[0]['slices']] == [2, 3]
    assert few[0]['left_out'] == 4
    assert few[0]['lesions'][0]['position'] == 1
    assert len(few[1]['slices']) == 1
    least = cases_data(cases, 0)
    assert [len(case['slices']) for case in least] == [1, 1]


def test_intervals_stand_below_their_scores_where_there_are_some():
    table = Table('Dice', '', [Column('dice_case', 'Dice', '', 'case')], {'U-Net': {'dice_case': 0.5}})
    assert '<small' not in html_table(table).split('<tbody>')[1]
    assert '0.400 to 0.600' in html_table(table, {'U-Net': {'dice_case': [0.4, 0.6]}})
    for odd in ({'U-Net': None}, {'U-Net': {'dice_case': [None, 1]}}, {'U-Net': {'dice_case': 'x'}}):
        assert ' to ' not in html_table(table, odd)


def test_ticks():
    assert nice_ticks(0, 1, 5) == [0, 0.2, 0.4, 0.6, 0.8, 1]
    assert nice_ticks(0, 700, 5) == [0, 200, 400, 600]
    assert log_ticks(0.9, 12) == pytest.approx([1, 2, 5, 10])
