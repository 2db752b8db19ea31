"""`liver-jax evaluate`: scores of a checkpoint, from the run folder alone."""

import logging
from pathlib import Path
from typing import Any

from liver_jax.data.certificate import check_trained_on, read_record
from liver_jax.data.splits import Split, read_split
from liver_jax.data.store import SliceStore
from liver_jax.errors import UserError
from liver_jax.evaluation.assess import Assessment, assess
from liver_jax.evaluation.external import choose_external, external_data
from liver_jax.evaluation.fitting import fit
from liver_jax.evaluation.run import Run, about_part, describe_results, load_run, open_store
from liver_jax.evaluation.scans import find_scans, make_part, part_of_rows
from liver_jax.evaluation.scores import summarise
from liver_jax.evaluation.summary import summarise_assessments
from liver_jax.evaluation.volumes import make_predictor
from liver_jax.files import check_writable
from liver_jax.runtime.run_folder import write_json

log = logging.getLogger(__name__)


def evaluate_run(
    workdir: Path,
    checkpoint: str,
    split: str,
    raw: Path | None,
    keep_training_cases: bool = False,
    patterns: tuple[str, str] = ('', ''),
    moved_store: str = '',
) -> dict[str, Any]:
    """Score a checkpoint on a part of its split, or on another folder of volumes; writes and returns the results.

    Written to `WORKDIR/evaluation/<split>.json`, with `raw` to `external.json`. Of `raw`, scans that the network was
    trained or chosen on are left out, unless `keep_training_cases`; `patterns` find images and labels in it.
    `moved_store` is where the run's slices are now, if not where they were in training.
    """
    if keep_training_cases and not raw:
        raise UserError('--keep_training_cases speaks of --raw, which is not given; expected both or neither')
    run, record = load_run(workdir, checkpoint, moved_store), read_record(workdir / 'split.json')
    check_trained_on(workdir / 'split.json', record, run.split)
    check_writable(workdir / 'evaluation')  # rather now than after an hour of scoring
    own, note = _own_slices(run, workdir)
    scans, missing = find_scans(own[0], run.config.data) if own else (None, '')
    if raw:
        store, rows, about = choose_external(raw, patterns, run.config.data, workdir, record, keep_training_cases)
        left_out = tuple(case['case'] for case in about['left_out'])
        others, missing = find_scans(store, external_data(raw, patterns, run.config.data, workdir))
        part = part_of_rows(store, rows, others, whole=True, without=left_out)
        note = f'nothing is fitted to validation: {note}' if note else ''
    elif own:
        part, about = make_part(*own, split, scans), about_part(record, split)
        note = 'the fitted rows are scored on what they were fitted to' if split == 'val' else ''
    else:
        raise UserError(note)
    note = '; '.join(filter(None, [note, missing]))
    if note:
        log.info('%s', note)
    scores = run.evaluator(part.store, part.rows).run(run.variables)
    results = describe_results(run, scores, about)
    predictor, name = make_predictor(run), str(run.config.model.name)
    fitted = {name: fit(predictor, *own, run.config.data.target, scans)} if own else {}
    assessment = assess({name: predictor}, run.config, part, {name: scores}, fitted)
    results |= describe_one(assessment, note, run.config.seed)
    write_json(workdir / 'evaluation' / f'{results["split"]}.json', results)
    return results


def _own_slices(run: Run, workdir: Path) -> tuple[tuple[SliceStore, Split] | None, str]:
    """The slices that the network was trained on and their split; or None, and why."""
    if not Path(run.config.data.store).exists():
        return None, (
            f'{run.config.data.store}: the slice store of {workdir} is not there; '
            'expected the slices that it was trained on, say where they are now with --store'
        )
    try:
        store = open_store(run.config)
        return (store, read_split(workdir / 'split.json', store)), ''
    except UserError as error:
        return None, str(error)


def describe_one(assessment: Assessment, note: str, seed: int) -> dict[str, Any]:
    """What `summarise_assessments` says of a single network, and the baselines."""
    found = summarise_assessments([[assessment]], note, seed)
    return {
        **found,
        'calibration': next(iter(found['calibration'].values())),
        'fitted': next((runs[0][0] for runs in found['fitted'].values()), None),
        'baselines': {name: summarise(scores) for name, scores in assessment.baselines.items()},
    }
