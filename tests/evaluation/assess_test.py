"""One pass over whole scans: every count against masks made by hand, and against the scores of prepared slices."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from liver_jax.data.prepare import prepare
from liver_jax.data.slices import prepare_slice, restore_slice
from liver_jax.data.splits import make_split
from liver_jax.data.store import SliceStore
from liver_jax.data.volumes import read_case
from liver_jax.evaluation.assess import assess
from liver_jax.evaluation.fitting import Fitted
from liver_jax.evaluation.native import NO_PARTS
from liver_jax.evaluation.panel import panel_rows
from liver_jax.evaluation.results import describe_one
from liver_jax.evaluation.scans import find_scans, make_part
from liver_jax.evaluation.score_volumes import score_volume
from liver_jax.evaluation.scores import ImageScores, case_scores
from liver_jax.evaluation.statistics import interval_of_mean, interval_over_cases
from liver_jax.evaluation.summary import summarise_assessments
from liver_jax.evaluation.volumes import Predictor
from liver_jax.metrics.overlap import Counts
from small_ct import small_config, write_cases

SIDE = 16  # half of the volumes' side
FITTED = Fitted(threshold=0.85, min_mm3=500.0, temperature=2.0, hu_below=55.0, val_dice=0.5)


def dark(images):
    """Like a network that takes for tumour what has about 0 HU; uint8 [N, side, side] to probabilities."""
    return np.exp(-(((images.astype(np.float32) / 255 * 400 - 160) / 40) ** 2))


def vague(images):
    """Like a network that is never sure."""
    return 0.6 * dark(images)


PREDICTORS = {name: Predictor(f, (-160.0, 240.0), SIDE, 3) for name, f in (('unet', dark), ('resunet', vague))}


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp('assess')
    config = small_config(write_cases(folder, 6), folder / 'store', data_image_size=SIDE, data_patients='volume')
    prepare(config.data)
    return config


def assessed(config, with_scans=True, by='patient'):
    store = SliceStore(Path(config.data.store))
    split = make_split(store, dataclasses.replace(config.split, by=by))
    part = make_part(store, split, 'test', find_scans(store, config.data)[0] if with_scans else None)
    masks = store.masks(part.rows, 'tumor') >= 128
    scores = {}
    for name, predictor in PREDICTORS.items():
        marked = predictor.function(store.images(part.rows)) >= 0.5
        pairs = [(p, r) for p in (marked, ~marked) for r in (masks, ~masks)]
        tp, fp, fn, tn = ((p & r).sum((1, 2)) for p, r in pairs)
        scores[name] = ImageScores([store.rows[row] for row in part.rows], Counts(tp, fp, fn, tn), np.ones(len(tp)))
    return part, assess(PREDICTORS, config, part, scores, {'unet': FITTED, 'resunet': FITTED})


def dice(assessment, **reading):
    wanted = {'average': 'pooled', 'empty_rule': 'left_out', 'resolution': 'native', 'slices': 'all', **reading}
    rows = panel_rows(assessment.counts, 'tumor', assessment.complete)
    (row,) = (row for row in rows if all(row[key] == value for key, value in wanted.items()))
    return row['dice']


def overlap(marked, reference):
    return 2 * (marked & reference).sum() / (marked.sum() + reference.sum())


def test_every_model_against_masks_of_the_whole_volume(config):
    part, assessment = assessed(config)
    ((case, patient),) = part.scans
    volume = read_case(case)
    reference, rows, columns = volume.labels == 2, *volume.hu.shape[1:]
    prepared = [
        prepare_slice(*pair, (-160.0, 240.0), SIDE, 'soft') for pair in zip(volume.hu, volume.labels, strict=True)
    ]
    small = np.stack([each['images'] for each in prepared])
    native = np.stack([restore_slice(plane, rows, columns) for plane in dark(small)])
    expected = {
        'unet': native >= 0.5,
        'resunet': 0.6 * native >= 0.5,
        'whole_liver': volume.labels >= 1,
        'hu_threshold': (volume.labels >= 1) & (volume.hu < 55),
    }
    for name, marked in expected.items():
        assert dice(assessment, model=name) == pytest.approx(overlap(marked, reference), abs=1e-6), name
        with_tumor = reference.any((1, 2))
        found = dice(assessment, model=name, slices='tumor')
        assert found == pytest.approx(overlap(marked[with_tumor], reference[with_tumor]), abs=1e-6), name
    (scan,) = assessment.volumes
    alone = score_volume(expected['unet'] * np.uint8(2), reference * np.uint8(2), scan.spacing, ('tumor',))
    assert scan.scores['unet']['tumor.dice'] == alone['tumor.dice'] == pytest.approx(dice(assessment, model='unet'))
    assert scan.scores['unet']['tumor.assd'] == alone['tumor.assd']
    assert scan.scores['unet']['lesions'] == alone['lesions']
    assert scan.scores['unet']['burden.reference'] == reference.sum() / (volume.labels > 0).sum()
    assert scan.candidates['resunet'].confidence.max() == pytest.approx(0.6 * native.max(), abs=1e-4)
    masks = np.stack([each['tumor'] for each in prepared]) >= 128
    assert dice(assessment, model='unet', resolution='network') == pytest.approx(overlap(dark(small) >= 0.5, masks))
    # Fitted: another threshold, and components below 500 mm³ (56 voxels of 9 mm³) dropped.
    numbers, count = ndimage.label(native >= 0.85, np.ones((3, 3, 3)))
    large = [number for number in range(1, count + 1) if (numbers == number).sum() * 9 >= 500]
    assert 0 < len(large) < count
    assert any((numbers == number).sum() < 500 for number in large)  # so that it matters that voxels are no mm³
    assert dice(assessment, model='unet_fitted') == pytest.approx(overlap(np.isin(numbers, large), reference))
    assert {count.patient for count in assessment.counts} == {patient}


def test_network_resolution_with_tumour_is_the_score_of_the_prepared_slices(config):
    with_scans, without = assessed(config)[1], assessed(config, with_scans=False)[1]
    assert {count.resolution for count in without.counts} == {'network'}
    for model in ('unet', 'resunet', 'all_zero', 'whole_liver', 'hu_threshold'):
        for average in ('image', 'case', 'pooled'):
            reading = {'model': model, 'average': average, 'resolution': 'network', 'slices': 'tumor'}
            assert dice(with_scans, **reading) == pytest.approx(dice(without, **reading), abs=1e-12)
    assert not without.complete
    assert {row['slices'] for row in panel_rows(without.counts, 'tumor', without.complete)} == {'tumor'}


def test_split_by_slice_counts_no_slice_of_another_part(config):
    part, assessment = assessed(config, by='slice')
    assert not assessment.complete
    summary = summarise_assessments([[assessment]], 'a note', seed=0)
    assert (summary['volumes']['cases'], summary['volumes']['note']) == ([], NO_PARTS)
    native = [count for count in assessment.counts if (count.model, count.resolution) == ('unet', 'native')]
    assert len(native) == len(part.rows)
    assert all(count.with_tumor for count in native)


def test_summary_has_what_the_report_shows(config):
    summary = summarise_assessments([[assessed(config)[1]]], 'a note', seed=0)
    assert {row['model'] for row in summary['panel']} == {
        'unet', 'resunet', 'all_zero', 'whole_liver', 'hu_threshold', 'ceiling_best', 'ceiling_soft',
        'ceiling_nearest', 'unet_fitted', 'resunet_fitted',
    }  # fmt: skip
    ceiling = summary['ceiling']
    assert 0.8 < ceiling['soft']['dice_case'] <= ceiling['best']['dice_case'] <= 1
    unet = summary['calibration']['unet']
    assert unet['temperature'] == 2.0
    assert len(unet['bins']) == 10
    # Where the network says nothing it is right outside of the liver: most pixels, and none of those that are hard.
    part, _ = assessed(config)
    liver, tumor = (part.store.masks(part.rows, target) >= 128 for target in ('liver_or_tumor', 'tumor'))
    probability = dark(part.store.images(part.rows))
    brier = [np.mean((probability[where] - tumor[where]) ** 2) for where in (slice(None), liver)]
    assert [unet['brier'], unet['in_liver']['brier']] == pytest.approx(brier, abs=1e-3)
    assert sum(each['count'] for each in unet['in_liver']['bins']) == liver.sum()
    assert summary['paired']['metric'] == 'Dice per patient (mean over cases), native resolution, all slices'
    assert summary['paired']['verdict'].startswith('no statement: 1 patient(s)')
    assert summary['panel_note'].endswith('a note')
    volumes = summary['volumes']
    assert volumes['networks']['unet']['mean']['tumor.dice'] == pytest.approx(summary['patient_dice']['unet']['mean'])
    assert volumes['cases'][0]['lesions'][0]['dice'].keys() == {'unet', 'resunet'}
    without = summarise_assessments([[assessed(config, with_scans=False)[1]]], 'no scans', seed=0)['volumes']
    assert (without['networks'], without['note']) == ({}, 'no scans')


def test_one_network_on_its_own_has_no_trace_of_the_other(config):
    found = describe_one(assessed(config)[1].only('unet'), '', seed=0)
    assert not [row for row in found['panel'] if row['model'].startswith('resunet')]
    assert found['fitted'] == FITTED.describe()
    assert found['calibration']['ece'] > 0
    assert 'paired' not in found
    assert found['volumes']['networks'].keys() == found['volumes']['cases'][0]['scores'].keys() == {'unet'}
    assert set(found['baselines']) == {'all_zero', 'whole_liver', 'hu_threshold'}


def test_the_interval_beside_the_mean_over_cases_is_about_that_mean(config):
    """Four patients with a case each of some Dice, four with two cases each of Dice 0."""
    _, one = assessed(config)
    found = one.scores['unet']
    nothing = Counts(0 * found.counts.tp, found.counts.fp, found.counts.fn + found.counts.tp, found.counts.tn)
    folds = []
    for case, patient in [*((f'a{n}', f'a{n}') for n in range(4)), *((f'b{n}', f'b{n // 2}') for n in range(8))]:
        slices = [dataclasses.replace(row, case=case, patient=patient) for row in found.slices]
        counts = found.counts if patient[0] == 'a' else nothing
        scores = {'unet': dataclasses.replace(found, slices=slices, counts=counts), 'resunet': one.scores['resunet']}
        folds.append(dataclasses.replace(one, scores=scores))
    low, high = summarise_assessments([folds], '', seed=0)['intervals']['unet']['dice_case']
    dice = case_scores(found)[0]['dice']
    expected = interval_over_cases(np.array([[dice] * 4 + [0] * 4]), np.array([[1] * 4 + [2] * 4]), 0)
    assert (low, high) == pytest.approx(expected)
    assert low < dice * 4 / 12 < high < dice
    assert high < interval_of_mean(np.array([dice] * 4 + [0] * 4), 0)[1] - dice / 20


def test_folds_are_joined_and_seeds_averaged(config):
    _, one = assessed(config)
    scores = {
        name: dataclasses.replace(
            own, slices=[dataclasses.replace(row, patient='another', case='another') for row in own.slices]
        )
        for name, own in one.scores.items()
    }
    counts = [count._replace(patient='another', case='another') for count in one.counts]
    other = dataclasses.replace(one, counts=counts, scores=scores)
    summary = summarise_assessments([[one, other]], '', seed=0)
    assert summary['paired']['patients'] == 2
    assert sum(each['count'] for each in summary['calibration']['unet']['bins']) == 2 * sum(
        int(n) for n in one.pixels['unet'].everywhere.total
    )
    same = case_scores(one.scores['unet'])[0]['dice']
    assert summary['intervals']['unet']['dice_case'] == pytest.approx([same, same])
    # A second seed that finds nothing halves the mean.
    blind = dataclasses.replace(
        one, counts=[count._replace(tp=0, fp=0, fn=count.tp + count.fn) for count in one.counts]
    )
    seeds = summarise_assessments([[one], [blind]], '', seed=0)
    alone = summarise_assessments([[one]], '', seed=0)
    assert seeds['patient_dice']['unet']['mean'] == pytest.approx(alone['patient_dice']['unet']['mean'] / 2)
    assert seeds['paired']['mean_by_seed'] == pytest.approx([alone['paired']['mean'], 0])
    assert seeds['paired']['patients'] == 1
