"""`liver-jax compare`: both networks on the same split, order and budget; scores, table, pictures."""

import dataclasses
import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from liver_jax.config import Config
from liver_jax.data.layouts import Case
from liver_jax.data.prepare import prepare
from liver_jax.data.splits import make_split
from liver_jax.data.store import SliceStore
from liver_jax.evaluation.evaluate import HALF
from liver_jax.evaluation.run import Run, describe_protocol, load_run, open_store
from liver_jax.evaluation.scans import find_scans
from liver_jax.evaluation.scores import summarise
from liver_jax.evaluation.summary import join_scores, summarise_assessments
from liver_jax.files import write_atomically
from liver_jax.metrics.overlap import EMPTY_RULE, overlap_scores
from liver_jax.metrics.volumetry import mean
from liver_jax.models import DISPLAY_NAMES, build_model, describe_model
from liver_jax.pairs import Outcome, Pair, plan_pairs, score_pair, train_pair
from liver_jax.report.curves import draw_curves
from liver_jax.report.panel_table import panel_markdown, panel_text
from liver_jax.report.panels import Panel, draw_panels
from liver_jax.report.reliability import draw_reliability
from liver_jax.report.tables import comparison_markdown, comparison_text
from liver_jax.report.volume_table import volumes_markdown, volumes_text
from liver_jax.runtime.distributed import on_first
from liver_jax.runtime.interrupt import unwinding, watch_signals
from liver_jax.runtime.run_folder import open_run, write_json
from liver_jax.runtime.telemetry import read_history

log = logging.getLogger(__name__)
PER_FIGURE = 4  # slices
Outcomes = Sequence[Sequence[Outcome]]  # by seed, then by fold


def compare(config: Config, workdir: Path, width: int) -> str:
    """Prepare if needed, train the networks, score their best checkpoints; returns the table and where things lie.

    Writes `comparison.json`, `comparison.md` and `figures/` in `workdir`, a run folder per network below it. With
    several seeds or folds each pair has such a folder of its own, and `workdir` has all of them together. A finished
    network is not trained again, a broken-off one goes on. Of several processes all train, and process 0 does the rest;
    the others return an empty text.

    Raises:
        UserError: volumes, a store, split or run folder that does not fit the config; a non-finite loss.
        Interrupted, Ended: as `train`; of the comparison nothing is written then.
    """
    on_first(lambda: _prepare(config))
    store = open_store(config, with_volumes=True)
    pairs = plan_pairs(config, workdir)
    for pair in pairs[0]:  # before the run folder is made: what cannot be split leaves nothing behind
        make_split(store, pair.config.split)
    unnamed = dataclasses.replace(config, model=pairs[0][0].config.model)  # model.name means nothing here
    on_first(lambda: open_run(workdir, unnamed))
    scans, note = find_scans(store, config.data)
    if note:
        log.info('%s', note)
    outcomes: list[list[Outcome]] = [[] for _ in pairs]
    with watch_signals(workdir / 'stop', config.train.max_hours) as stop:
        for number, seed in enumerate(pairs):
            for pair in seed:
                train_pair(pair, store, stop)
                outcome = on_first(partial(_score, pair, workdir, store, scans, note))
                if outcome:
                    outcomes[number].append(outcome)
    return on_first(lambda: _conclude(config, workdir, store, outcomes, note, width)) or ''


def _prepare(config: Config) -> None:
    if Path(config.data.raw).is_dir() or not Path(config.data.store).exists():
        with unwinding():
            prepare(config.data)
    elif config.data.raw:
        log.warning('%s is gone; going on with the slices in %s', config.data.raw, config.data.store)


def _score(pair: Pair, workdir: Path, store: SliceStore, scans: dict[str, Case] | None, note: str) -> Outcome:
    """Score a pair; one that has a folder of its own gets its comparison there."""
    outcome = score_pair(pair, store, scans, note)
    if pair.folder != workdir:
        open_run(pair.folder, pair.config)
        _write(pair.folder, _comparison(pair.config, store, [[outcome]], note))
    return outcome


def _conclude(config: Config, workdir: Path, store: SliceStore, outcomes: Outcomes, note: str, width: int) -> str:
    """Write the comparison of all pairs; returns the tables."""
    comparison = _comparison(config, store, outcomes, note)
    _write(workdir, comparison)
    _draw(workdir, store, outcomes[0][0], comparison)
    tables = (table(comparison, width) for table in (comparison_text, volumes_text, panel_text))
    return '\n'.join([*tables, _where(workdir, outcomes)])


def _write(folder: Path, comparison: dict[str, Any]) -> None:
    write_json(folder / 'comparison.json', comparison)
    tables = comparison_markdown(comparison), volumes_markdown(comparison), panel_markdown(comparison)
    write_atomically(folder / 'comparison.md', ''.join(tables))


def _comparison(config: Config, store: SliceStore, outcomes: Outcomes, note: str) -> dict[str, Any]:
    """Folds as one test set, seeds averaged."""
    folds = outcomes[0]
    scored = {
        name: [join_scores([outcome.scores[name] for outcome in seed]) for seed in outcomes] for name in folds[0].scores
    }
    models = {
        name: {
            **_mean_scores([summarise(scores) for scores in scored[name]]),
            **describe_model(build_model(network.model), config.data.image_size),
            'best_step': mean([outcome.steps[name] for seed in outcomes for outcome in seed]),
        }
        for name, network in folds[0].pair.networks.items()
    }
    baselines = {
        name: summarise(join_scores([fold.assessment.baselines[name] for fold in folds]))
        for name in folds[0].assessment.baselines
    }
    return {
        'protocol': _protocol(config, store, folds),
        'models': models,
        'baselines': baselines,
        'runs': [_about_run(outcome) for seed in outcomes for outcome in seed],
        **summarise_assessments([[fold.assessment for fold in seed] for seed in outcomes], note, config.seed),
    }


def _protocol(config: Config, store: SliceStore, folds: Sequence[Outcome]) -> dict[str, Any]:
    """What the numbers depend on; counts, certificate and digest are those of the first fold."""
    split = folds[0].split
    return {
        **describe_protocol(config),
        'seeds': config.compare.seeds,
        'folds': config.compare.folds,
        'counts': split.counts,
        'certificate': {
            **split.certificate,
            'sentence': '; '.join(fold.split.certificate['sentence'] for fold in folds),
            'disjoint': all(fold.split.certificate['disjoint'] for fold in folds),
        },
        'split_digest': split.digest,
        'empty_rule': EMPTY_RULE,
        'patients': store.manifest['patients'],
        'warning': split.warning,
    }


def _about_run(outcome: Outcome) -> dict[str, Any]:
    """One pair on its own."""
    split = outcome.pair.config.split
    return {
        'seed': outcome.pair.config.seed,
        'fold': split.fold if split.folds else None,
        'split_digest': outcome.split.digest,
        'best_step': outcome.steps,
        'models': {name: summarise(scores) for name, scores in outcome.scores.items()},
        'fitted': {name: fitted.describe() for name, fitted in outcome.assessment.fitted.items()},
    }


def _mean_scores(summaries: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: mean([summary[name] for summary in summaries]) for name in summaries[0]}


def _draw(workdir: Path, store: SliceStore, outcome: Outcome, comparison: dict[str, Any]) -> None:
    """The figures, of the first pair: test slices ordered by the mean Dice of both networks, the smallest lesions,
    training curves; and the reliability of all pairs.
    """
    split, folder = outcome.split, outcome.pair.folder
    runs = {name: load_run(folder / name) for name in outcome.scores}
    rows = split.rows['test']
    dice = {name: overlap_scores(score.counts)['dice'] for name, score in outcome.scores.items()}
    both = np.stack(list(dice.values()))
    # A slice that neither reference nor predictions mark has no Dice and shows nothing.
    defined = np.flatnonzero(~np.isnan(both).all(axis=0))
    ranked = defined[np.argsort(np.nanmean(both[:, defined], axis=0), kind='stable')]
    sizes = np.array([store.rows[row].tumor_area for row in rows])
    marked = np.flatnonzero(sizes)
    middle = max(0, (len(ranked) - PER_FIGURE) // 2)
    chosen = {
        'best': ('Best test slices', ranked[::-1][:PER_FIGURE]),
        'median': ('Median test slices', ranked[middle : middle + PER_FIGURE]),
        'worst': ('Worst test slices', ranked[:PER_FIGURE]),
        'smallest_lesions': ('Test slices with the smallest lesions', marked[np.argsort(sizes[marked])][:PER_FIGURE]),
    }
    for file, (title, indices) in chosen.items():
        if len(indices):
            panels = _panels(store, rows[indices], runs, {name: values[indices] for name, values in dice.items()})
            draw_panels(workdir / 'figures' / f'{file}.png', title, panels, split.warning)
    histories = {DISPLAY_NAMES[name]: read_history(folder / name) for name in runs}
    monitor = runs['unet'].config.train.monitor
    draw_curves(workdir / 'figures' / 'training_curves.png', histories, split.warning, f'val/{monitor}')
    reliability = {DISPLAY_NAMES[name]: values for name, values in comparison['calibration'].items()}
    draw_reliability(workdir / 'figures' / 'reliability.png', reliability, split.warning)


def _panels(store: SliceStore, rows: np.ndarray, runs: dict[str, Run], dice: dict[str, np.ndarray]) -> list[Panel]:
    predictions = {name: run.evaluator(store, rows).predict(run.variables) for name, run in runs.items()}
    target = runs['unet'].config.data.target
    images, truths = store.images(rows), store.masks(rows, target) >= HALF
    return [
        Panel(
            image=images[i].astype(np.float32) / 255,
            truth=truths[i],
            predictions={DISPLAY_NAMES[name]: prediction[i] for name, prediction in predictions.items()},
            case=store.rows[row].case,
            slice_index=store.rows[row].index,
            dice={DISPLAY_NAMES[name]: float(values[i]) for name, values in dice.items()},
            note=f'tumour {store.rows[row].tumor_area:.0f} mm²',
        )
        for i, row in enumerate(rows)
    ]


def _where(workdir: Path, outcomes: Outcomes) -> str:
    first = outcomes[0][0].pair.folder.relative_to(workdir)
    several = len(outcomes) * len(outcomes[0]) > 1
    levels = {'fold-*/': len(outcomes[0]) > 1, 'seed-*/': len(outcomes) > 1}
    of = ''.join(level for level, there in levels.items() if there)
    lines = {
        'table': 'comparison.md (numbers: comparison.json)',
        'pictures': f'figures/{f" (slices and curves: {first})" if several else ""}',
        'TensorBoard': f'{of}{{unet,resunet}}/tensorboard/',
        'checkpoints': f'{of}{{unet,resunet}}/checkpoints/',
    }
    return '\n'.join(f'{name + ":":<13}{workdir}/{place}' for name, place in lines.items())
