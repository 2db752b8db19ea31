"""Assessments, of one network or of many pairs, as plain data: for `comparison.json` and `evaluation/<split>.json`."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from liver_jax.evaluation.assess import Assessment
from liver_jax.evaluation.baselines import CEILINGS
from liver_jax.evaluation.fitting import sum_pixels
from liver_jax.evaluation.native import NO_PARTS, describe_volumes
from liver_jax.evaluation.panel import (
    AVERAGES,
    PANEL_RULE,
    RESOLUTIONS,
    SliceCount,
    mean_panel,
    panel_rows,
    patient_dice,
)
from liver_jax.evaluation.scores import ImageScores, case_scores
from liver_jax.evaluation.statistics import compare_paired, interval_of_mean, interval_over_cases
from liver_jax.metrics.calibration import CALIBRATION_RULE, calibration
from liver_jax.metrics.overlap import Counts
from liver_jax.metrics.volumetry import mean
from liver_jax.models import DISPLAY_NAMES

Trained = Sequence[Sequence[Assessment]]  # by seed, then by fold


def summarise_assessments(trained: Trained, note: str, seed: int) -> dict[str, Any]:
    """`panel`, `ceiling`, `calibration`, `fitted`, `intervals`, `patient_dice`, `volumes`; of two networks `paired`.

    Folds are joined, so that every patient counts once; seeds are averaged. `intervals` are of scores in the tables,
    `patient_dice` and `paired` of the strictest reading. `note` says what is missing, and why;
    `seed` is that of the resampling.
    """
    first = trained[0][0]
    complete = all(each.complete for folds in trained for each in folds)
    counts = [[count for fold in folds for count in fold.counts] for folds in trained]
    panel = mean_panel([panel_rows(own, first.target, complete) for own in counts])
    models = list(first.pixels)
    resolution, slices = _honest(counts[0], complete)
    by_seed = {model: [patient_dice(own, model, resolution, slices) for own in counts] for model in models}
    dice = {model: _mean_by_patient(seeds) for model, seeds in by_seed.items()}
    metric = f'Dice per patient (mean over cases), {resolution} resolution, {_SLICES[slices]}'
    summary: dict[str, Any] = {
        'panel': panel,
        'panel_rule': PANEL_RULE,
        'panel_note': ' '.join(filter(None, [f'Target: that of the network alone ({first.target}).', note])),
        'ceiling': _ceiling(panel, slices),
        'calibration': {model: _calibration(trained, model) for model in models},
        'fitted': {
            model: [[fold.fitted[model].describe() for fold in folds] for folds in trained]
            for model in models
            if model in first.fitted
        },
        'intervals': {model: {'dice_case': _headline_interval(trained, model, seed)} for model in models},
        'patient_dice': {model: _about_dice(values, metric, seed) for model, values in dice.items()},
        'volumes': _volumes(trained, note),
    }
    if len(models) == 2:
        one, other = models
        names = DISPLAY_NAMES[one], DISPLAY_NAMES[other]
        summary['paired'] = compare_paired(dice[one], dice[other], names, metric, seed)
        summary['paired']['mean_by_seed'] = [
            compare_paired(a, b, names, metric, seed)['mean'] for a, b in zip(*by_seed.values(), strict=True)
        ]
    return summary


def join_scores(folds: Sequence[ImageScores]) -> ImageScores:
    """The slices of all folds as one test set."""
    losses = [fold.loss for fold in folds if fold.loss is not None]
    return ImageScores(
        slices=[row for fold in folds for row in fold.slices],
        counts=Counts(*(np.concatenate(values) for values in zip(*(fold.counts for fold in folds), strict=True))),
        ssim=np.concatenate([fold.ssim for fold in folds]),
        loss=np.concatenate(losses) if losses else None,
    )


_SLICES = {'tumor': 'slices with tumour', 'all': 'all slices'}


def _honest(counts: Sequence[SliceCount], complete: bool) -> tuple[str, str]:
    """The strictest reading there is: native if it can be, all slices if these are all."""
    there = {count.resolution for count in counts}
    return next(each for each in reversed(RESOLUTIONS) if each in there), 'all' if complete else 'tumor'


def _mean_by_patient(seeds: Sequence[dict[str, float]]) -> dict[str, float]:
    return {patient: mean([seed[patient] for seed in seeds]) for patient in seeds[0]}


def _headline_interval(trained: Trained, model: str, seed: int) -> list[float]:
    """Interval of the Dice per case of the prepared slices, the mean over cases in the tables, by drawing patients."""
    by_seed = [case_scores(join_scores([fold.scores[model] for fold in folds])) for folds in trained]
    patients = sorted({case['patient'] for cases in by_seed for case in cases})
    sums, counts = np.zeros((2, len(by_seed), len(patients)))
    for number, cases in enumerate(by_seed):
        for case in cases:
            if not np.isnan(case['dice']):
                place = number, patients.index(case['patient'])
                sums[place] += case['dice']
                counts[place] += 1
    return list(interval_over_cases(sums, counts, seed))


def _about_dice(dice: dict[str, float], metric: str, seed: int) -> dict[str, Any]:
    values = _defined(dice)
    low, high = interval_of_mean(values, seed)
    return {'metric': metric, 'mean': mean(values), 'low': low, 'high': high, 'patients': len(values)}


def _defined(dice: dict[str, float]) -> np.ndarray:
    return np.array([value for value in dice.values() if not np.isnan(value)])


def _volumes(trained: Trained, note: str) -> dict[str, Any]:
    """Scores of whole scans (`describe_volumes`); empty, and why, where there are none."""
    scans = [[scan for fold in folds for scan in fold.volumes] for folds in trained]
    first = trained[0][0]
    native = any(count.resolution == 'native' for count in first.counts)
    missing = '' if scans[0] else NO_PARTS if native else note
    return describe_volumes(scans, first.target, first.threshold, missing)


def _ceiling(panel: Sequence[dict[str, Any]], slices: str) -> dict[str, Any]:
    """The Dice of the reference after its way to the network's grid and back; empty without scans."""
    found = {
        (row['model'], row['average']): row['dice']
        for row in panel
        if row['model'] in CEILINGS and (row['slices'], row['empty_rule']) == (slices, 'left_out')
    }
    return {
        resizing: {f'dice_{average}': found[name, average] for average in AVERAGES}
        for name, resizing in CEILINGS.items()
        if found
    }


def _calibration(trained: Trained, model: str) -> dict[str, Any]:
    """Of the pixels of all runs; temperatures and what they make of the errors are means over the runs."""
    runs = [(fold.pixels[model], fold.fitted.get(model)) for folds in trained for fold in folds]
    temperatures = [fitted.temperature if fitted else float('nan') for _, fitted in runs]
    together = sum_pixels(pixels for pixels, _ in runs)
    scaled = [
        calibration(pixels.everywhere, temperature=t)
        for (pixels, _), t in zip(runs, temperatures, strict=True) if t == t
    ]  # fmt: skip
    return {
        **calibration(together.everywhere),
        **({'in_liver': calibration(together.in_liver)} if trained[0][0].target == 'tumor' else {}),
        'temperature': mean(temperatures),
        'with_temperature': {name: mean([each[name] for each in scaled]) for name in ('ece', 'brier', 'nll')},
        'rule': f'pixels of the prepared slices, at network resolution; {CALIBRATION_RULE}',
    }
