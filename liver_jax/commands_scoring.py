"""The commands that score and segment: their flags and the one call each makes. See `commands`."""

import math
import shutil

from absl.flags import FlagValues

from liver_jax.cli_flags import WORKDIR, Command, Flag, path_of, start_jax
from liver_jax.cli_output import check_json, give
from liver_jax.errors import UserError
from liver_jax.runtime.distributed import on_first


def _evaluate(values: FlagValues) -> None:
    if values.watch:
        _watch(values)
        return
    start_jax(together=True)
    on_first(lambda: _evaluate_here(values))


def _evaluate_here(values: FlagValues) -> None:
    from liver_jax.evaluation.results import evaluate_run
    from liver_jax.report.panel_table import panel_text
    from liver_jax.report.tables import evaluation_text
    from liver_jax.report.volume_table import volumes_text

    raw = path_of(values.raw) if values.raw else None
    results = evaluate_run(
        path_of(values.workdir), values.checkpoint, values.split, raw, values.keep_training_cases,
        (values.images, values.labels), str(path_of(values.store)) if values.store else '',
    )  # fmt: skip
    width = shutil.get_terminal_size().columns
    print(evaluation_text(results, width))
    print(volumes_text(results, width))
    print(panel_text(results, width))
    print(f'written: {path_of(values.workdir) / "evaluation" / results["split"]}.json')


def _watch(values: FlagValues) -> None:
    for flag in ('checkpoint', 'raw', 'images', 'labels', 'keep_training_cases'):
        if not values[flag].using_default_value:
            raise UserError(f'--{flag} does not go with --watch; expected --workdir, --split and --store alone')
    start_jax()
    from liver_jax.evaluation.watch import watch

    part = 'val' if values['split'].using_default_value else values.split  # to choose by the test part would spoil it
    store = str(path_of(values.store)) if values.store else ''
    print(f'scores of {watch(path_of(values.workdir), part, store)}')


def _score(values: FlagValues) -> None:
    from liver_jax.evaluation.score_folders import check_all_scored, score_folders
    from liver_jax.report.score_table import score_text

    check_json(values.json)
    probabilities = path_of(values.probabilities) if values.probabilities else None
    results = score_folders(path_of(values.prediction), path_of(values.reference), values.labels, probabilities)
    give(values.json, results, score_text(results, shutil.get_terminal_size().columns))
    check_all_scored(results)


def _predict(values: FlagValues) -> None:
    check_json(values.json)
    start_jax()
    from liver_jax.evaluation.predict import check_all_done, predict
    from liver_jax.evaluation.segment import Options

    options = Options(
        values.flips, values.fitted, _millilitres(values.min_ml), values.largest_component, values.probabilities
    )
    output = path_of(values.output)
    liver = path_of(values.liver_workdir) if values.liver_workdir else None
    manifest = predict(path_of(values.workdir), path_of(values.input), output, values.checkpoint, options, liver)
    give(values.json, manifest, f'written: {output} (labels, findings.csv, manifest.json)')
    check_all_done(manifest, output)


def _millilitres(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < math.inf:
        raise UserError(f'--min_ml={text}: expected millilitres, such as 0.05')
    return value


SCORING = {
    'evaluate': Command(
        'score a checkpoint, or with --watch each as it is saved; needs the run folder, and the slices that it names',
        {
            'workdir': WORKDIR,
            'checkpoint': Flag('best, latest or a step', 'best'),
            'split': Flag('part of the split to score: val or test', 'test', ('val', 'test')),
            'raw': Flag('score this folder of other volumes instead, prepared the same way', ''),
            'images': Flag('with --raw: pattern of the images in it, such as ct/*.nii.gz (else recognised)', ''),
            'labels': Flag('with --raw: pattern of their labels', ''),
            'keep_training_cases': Flag('of --raw, score also volumes that were in training or validation', False),
            'store': Flag('where the slice store of the run is now, if it was moved', ''),
            'watch': Flag('beside training: score every new checkpoint (--split: val) until training has ended', False),
        },
        _evaluate,
        resumes=True,
    ),
    'score': Command(
        'score NIfTI segmentations, whatever made them, by the LiTS scores and more; files are joined by number',
        {
            'prediction': Flag('folder of predicted segmentations, or one file'),
            'reference': Flag('folder of reference segmentations, or one file'),
            'probabilities': Flag('folder of tumour probabilities (NIfTI, as `predict` writes them): adds FROC', ''),
            'json': Flag('write all scores to this file, without a value to the terminal', '', bare='-'),
            'labels': Flag(
                'what labels of predictions mean: lits (1 liver, 2 tumour), tumor or liver (one class), auto (by what '
                'is there, and says so)',
                'auto',
                ('auto', 'lits', 'tumor', 'liver'),
            ),
        },
        _score,
    ),
    'predict': Command(
        'segment scans with a trained network: NIfTI and DICOM-SEG on their own grid, lesions measured',
        {
            'workdir': WORKDIR,
            'input': Flag('a NIfTI file, a DICOM series, or a folder of them'),
            'output': Flag('folder for the results; what it has of the same network is left as it is'),
            'checkpoint': Flag('best, latest or a step', 'best'),
            'liver_workdir': Flag('run folder of a second network, of the liver; tumour counts only within', ''),
            'flips': Flag('average over mirrored slices, as the network saw them in training', False),
            'fitted': Flag('use the threshold and smallest lesion that `evaluate` fitted to validation', False),
            'min_ml': Flag('leave out pieces smaller than this many millilitres', '0'),
            'largest_component': Flag('keep the largest piece alone; for networks of the liver', False),
            'probabilities': Flag('write probabilities too (uint16 NIfTI with a slope)', False),
            'json': Flag('write the manifest to this file, without a value to the terminal', '', bare='-'),
        },
        _predict,
        resumes=True,
    ),
}
