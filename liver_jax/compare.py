"""`liver-jax compare`: both networks on the same split, order and budget; scores, table, pictures."""

import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy as np

from liver_jax.config import NETWORKS, Config
from liver_jax.data.certificate import check_trained_on, read_record, write_split
from liver_jax.data.prepare import prepare
from liver_jax.data.splits import Split, load_or_make_split, make_split
from liver_jax.data.store import SliceStore
from liver_jax.errors import UserError
from liver_jax.evaluation.evaluate import HALF, score_empty
from liver_jax.evaluation.run import Run, about_part, describe_results, load_run, open_store
from liver_jax.evaluation.scores import ImageScores, summarise
from liver_jax.files import write_atomically
from liver_jax.metrics.overlap import EMPTY_RULE, overlap_scores
from liver_jax.models import DISPLAY_NAMES, describe_model
from liver_jax.report.curves import draw_curves
from liver_jax.report.panels import Panel, draw_panels
from liver_jax.report.tables import comparison_markdown, comparison_text
from liver_jax.runtime.run_folder import open_run, write_json
from liver_jax.runtime.telemetry import read_history
from liver_jax.training.loop import model_line, train

log = logging.getLogger(__name__)
PER_FIGURE = 4  # slices


def compare(config: Config, workdir: Path, width: int) -> str:
    """Prepare if needed, train both networks, score their best checkpoints; returns the table and where things lie.

    Writes `comparison.json`, `comparison.md` and `figures/` in `workdir`, a run folder per network below it.
    A finished network is not trained again, a broken-off one goes on.
    """
    if Path(config.data.raw).is_dir() or not Path(config.data.store).exists():
        prepare(config.data)
    elif config.data.raw:
        log.warning('%s is gone; going on with the slices in %s', config.data.raw, config.data.store)
    store = open_store(config, with_volumes=True)
    make_split(store, config.split)  # before the run folder is made: what cannot be split leaves nothing behind
    configs = {
        name: dataclasses.replace(config, model=dataclasses.replace(config.model, name=name)) for name in NETWORKS
    }
    open_run(workdir, configs['unet'])  # model.name means nothing here
    split = load_or_make_split(workdir / 'split.json', store, config.split)
    for name, each in configs.items():
        _share_split(split, workdir / name / 'split.json')
        log.info('%s', model_line(each))
    runs: dict[str, Run] = {}
    scores: dict[str, ImageScores] = {}
    for name, each in configs.items():
        run_folder = workdir / name
        train(each, run_folder)
        runs[name] = load_run(run_folder)
        check_trained_on(workdir / 'split.json', split, runs[name].split)
        scores[name] = runs[name].evaluator(store, split.rows['test']).run(runs[name].variables)
        results = describe_results(runs[name], scores[name], about_part(split, 'test'))
        write_json(run_folder / 'evaluation' / 'test.json', results)
    comparison = _comparison(config, store, split, runs, scores)
    write_json(workdir / 'comparison.json', comparison)
    write_atomically(workdir / 'comparison.md', comparison_markdown(comparison))
    _draw(workdir, store, split, runs, scores)
    return f'{comparison_text(comparison, width)}\n\n{_where(workdir)}'


def _share_split(split: Split, own: Path) -> None:
    """Give a network the split of the comparison; one that has another is refused."""
    if not own.exists():
        write_split(own, split)
    elif read_record(own).digest != split.digest:
        raise UserError(f'{own}: another split than that of the comparison; expected the same, use a new --workdir')


def _comparison(
    config: Config, store: SliceStore, split: Split, runs: dict[str, Run], scores: dict[str, ImageScores]
) -> dict[str, Any]:
    models = {
        name: {
            **summarise(scores[name]),
            **describe_model(run.model, config.data.image_size),
            'best_step': run.step,
        }
        for name, run in runs.items()
    }
    return {
        'protocol': {
            'target': config.data.target,
            'slices': config.data.slices,
            'split': config.split.by,
            'image_size': config.data.image_size,
            'threshold': config.eval.threshold,
            'seed': config.seed,
            'counts': split.counts,
            'certificate': split.certificate,
            'split_digest': split.digest,
            'empty_rule': EMPTY_RULE,
            'patients': store.manifest['patients'],
            'warning': split.warning,
        },
        'models': models,
        'baselines': {'all_zero': summarise(score_empty(store, split.rows['test'], config.data.target))},
    }


def _draw(workdir: Path, store: SliceStore, split: Split, runs: dict[str, Run], scores: dict[str, ImageScores]) -> None:
    """The figures: test slices ordered by the mean Dice of both networks, the smallest lesions, training curves."""
    rows = split.rows['test']
    dice = {name: overlap_scores(score.counts)['dice'] for name, score in scores.items()}
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
    histories = {DISPLAY_NAMES[name]: read_history(workdir / name) for name in runs}
    monitor = runs['unet'].config.train.monitor
    draw_curves(workdir / 'figures' / 'training_curves.png', histories, split.warning, f'val/{monitor}')


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


def _where(workdir: Path) -> str:
    lines = {
        'table': 'comparison.md (numbers: comparison.json)',
        'pictures': 'figures/',
        'TensorBoard': '{unet,resunet}/tensorboard/',
        'checkpoints': '{unet,resunet}/checkpoints/',
    }
    return '\n'.join(f'{name + ":":<13}{workdir}/{place}' for name, place in lines.items())
