"""Whole scans scored beside their networks: by hand, seeds averaged, folds joined, and as a table."""

import dataclasses
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest

from liver_jax.evaluation.native import ScanScores, WholePrediction, describe_volumes, score_scan
from liver_jax.report.volume_table import volumes_markdown, volumes_text
from liver_jax.runtime.run_folder import json_text

SIZE, SPACING = (6, 12, 12), (2.0, 1.0, 1.0)


def labels():
    """A liver of 4x10x10 voxels; lesions of 1x4x4 and 1x2x2."""
    array = np.zeros(SIZE, np.uint8)
    array[1:5, 1:11, 1:11] = 1
    array[2, 2:6, 2:6] = array[4, 8:10, 8:10] = 2
    return array


def probabilities(first=0.9, second=0.0, wrong=0.0):
    """Of the lower half of the first lesion, the second one, and a place without tumour."""
    array = np.zeros(SIZE, np.float32)
    array[2, 4:6, 2:6], array[4, 8:10, 8:10], array[1, 10, 1:3] = first, second, wrong
    return array


def scored(networks, case='a', target='tumor', reference=None) -> ScanScores:
    scan = SimpleNamespace(case=SimpleNamespace(name=case), size=SIZE, spacing=SPACING)
    whole = {}
    for name, array in networks.items():
        whole[name] = WholePrediction(SIZE, 0.5, target)
        for index in (5, 3, 0, 1, 2, 4):  # in whatever order
            whole[name].add(index, array[index])
    return score_scan(scan, f'patient of {case}', labels() if reference is None else reference, target, whole)


def test_two_networks_on_a_scan_by_hand():
    scan = scored({'unet': probabilities(), 'resunet': probabilities(second=0.6, wrong=0.8)})
    found = json.loads(json_text(describe_volumes([[scan]], 'tumor', 0.5, '')))
    (case,) = found['cases']
    assert (case['case'], case['patient'], case['size'], case['spacing_mm']) == (
        'a',
        'patient of a',
        [6, 12, 12],
        [2, 1, 1],
    )
    # 8 of 16 + 4 voxels; 8 + 4 of them and 2 beside.
    assert case['scores']['unet']['tumor.dice'] == pytest.approx(2 * 8 / (8 + 20))
    assert case['scores']['resunet']['tumor.dice'] == pytest.approx(2 * 12 / (14 + 20))
    assert case['scores']['unet']['burden.error'] == pytest.approx((8 - 20) / 400)
    large, small = case['lesions']
    assert large['dice'] == pytest.approx({'unet': 2 * 8 / (8 + 16), 'resunet': 2 * 8 / (8 + 16)})
    assert small['dice'] == {'unet': 0, 'resunet': 1}
    assert small['found_iou0'] == {'unet': 0, 'resunet': 1}
    assert (large['slice'], large['box']) == (2, [2, 2, 6, 6])
    assert (small['volume_ml'], small['slice'], small['box']) == (pytest.approx(0.008), 4, [8, 8, 10, 10])
    assert large['diameter_mm'] == pytest.approx(math.hypot(4, 3))
    unet, resunet = found['networks'].values()
    assert unet['global']['lesion.recall_iou0'] == 1 / 2
    # One scan, by confidence: .9 finds the first, .8 is wrong, .6 finds the second: all from one false positive on.
    assert resunet['froc']['sensitivity'] == [0.5, 0.5, 0.5, 1, 1, 1, 1]
    assert unet['froc']['sensitivity'] == [0.5] * 7
    assert 'liver voxels of the reference' in found['rules']['burden']


def test_folds_are_pooled_and_seeds_averaged():
    one, other = scored({'unet': probabilities()}), scored({'unet': probabilities(second=0.9)}, 'b')
    folds = describe_volumes([[one, other]], 'tumor', 0.5, '')
    assert [case['case'] for case in folds['cases']] == ['a', 'b']
    assert folds['networks']['unet']['global']['tumor.dice'] == pytest.approx(2 * 20 / (20 + 40))
    assert folds['networks']['unet']['mean']['tumor.dice'] == pytest.approx((16 / 28 + 24 / 32) / 2)
    better = dataclasses.replace(other, case='a')
    seeds = describe_volumes([[one], [better]], 'tumor', 0.5, '')
    (case,) = seeds['cases']
    assert case['scores']['unet']['tumor.dice'] == pytest.approx((16 / 28 + 24 / 32) / 2)
    assert case['lesions'][1]['dice'] == {'unet': 0.5}
    assert seeds['networks']['unet']['froc']['score'] == pytest.approx((0.5 + 1) / 2)
    # A distance that one seed has not is that of the other.
    nothing = scored({'unet': probabilities(first=0)})
    assert math.isnan(nothing.scores['unet']['tumor.assd'])
    both = describe_volumes([[one], [nothing]], 'tumor', 0.5, '')
    assert both['cases'][0]['scores']['unet']['tumor.assd'] == one.scores['unet']['tumor.assd']


def test_the_liver_without_its_tumours_is_scored_as_the_network_sees_it():
    alone = (labels() == 1).astype(np.float32)
    found = describe_volumes([[scored({'unet': alone}, target='liver')]], 'liver', 0.5, '')
    assert found['networks']['unet']['mean']['liver.dice'] == 1
    assert 'liver is label 1 alone' in found['rules']['labels']
    assert not found['cases'][0].keys() & {'lesions'}
    merged = describe_volumes([[scored({'unet': alone}, target='liver_or_tumor')]], 'liver_or_tumor', 0.5, '')
    assert merged['networks']['unet']['mean']['liver.dice'] == pytest.approx(2 * 380 / (380 + 400))


def test_the_table_says_of_how_many_scans_and_what_is_missing():
    one = scored({'unet': probabilities(), 'resunet': probabilities()})
    free = scored({'unet': probabilities(), 'resunet': probabilities(0)}, 'b', reference=np.minimum(labels(), 1))
    results = {'volumes': describe_volumes([[one, free]], 'tumor', 0.5, '')}
    text, markdown = volumes_text(results, 90), volumes_markdown(results)
    assert '| RVD | -0.6000 (1 of 2) | -0.6000 (1 of 2) |' in markdown
    assert '| false-positive volume, ml | 0.02 (1 of 2) | 0.00 (1 of 2) |' in markdown
    assert '| Dice, all voxels pooled | 0.4444 | 0.5714 |' in markdown
    assert '2 scans with 2 lesions, threshold 0.5' in text
    assert max(map(len, text.splitlines())) <= 90
    narrow = volumes_text(results, 30)
    assert 'RVD, U-Net: -0.6000 (1 of 2)' in narrow
    assert max(map(len, narrow.splitlines())) <= 30
    none = {'volumes': describe_volumes([[]], 'tumor', 0.5, 'data.raw is gone')}
    assert 'None: data.raw is gone.' in volumes_markdown(none)
    assert 'None: data.raw is gone.' in volumes_text(none, 80)
    assert volumes_markdown({}) == volumes_text({}, 80) == ''
