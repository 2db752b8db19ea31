"""What a run folder has to say, gathered for the page: its numbers as written, and its test slices predicted again."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from liver_jax.config import NETWORKS, Config
from liver_jax.data.certificate import check_trained_on
from liver_jax.data.splits import Split, read_split
from liver_jax.data.store import SliceStore
from liver_jax.errors import UserError
from liver_jax.evaluation.evaluate import HALF, score_empty
from liver_jax.evaluation.run import Run, about_part, describe_protocol, describe_results, load_run, open_store
from liver_jax.evaluation.scores import summarise
from liver_jax.metrics.overlap import EMPTY_RULE, Counts, overlap_scores
from liver_jax.models import DISPLAY_NAMES, describe_model
from liver_jax.report.lesions import Lesion, find_lesions
from liver_jax.runtime.run_folder import read_run_config
from liver_jax.runtime.telemetry import read_history

# Names that our layouts give. Any other is a file's or a folder's own, and people name those after patients.
_PLAIN_NAME = re.compile(r'(volume|liver|case|phantom)[-_ ]?\d{1,6}')


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """One scan of the test part on the network's grid; `predictions`, `dice` and `slice_dice` by display name.

    `indices` are the slices counted from the feet, `spacing` mm between slices, rows and columns of the grid; `false`
    counts the predicted pieces that touch no lesion.
    """

    name: str
    patient: str
    indices: np.ndarray
    images: np.ndarray
    truth: np.ndarray
    predictions: dict[str, np.ndarray]
    spacing: tuple[float, float, float]
    dice: dict[str, float]
    slice_dice: dict[str, np.ndarray]
    lesions: list[Lesion]
    false: dict[str, int]

    @property
    def volume_ml(self) -> float:
        """Of the reference on these slices."""
        return float(self.truth.sum() * np.prod(self.spacing) / 1000)

    @property
    def mean_dice(self) -> float:
        """Over the networks; NaN where neither has one."""
        defined = [dice for dice in self.dice.values() if not np.isnan(dice)]
        return float(np.mean(defined)) if defined else float('nan')


@dataclasses.dataclass(frozen=True, eq=False)
class Findings:
    """A comparison or a single run: `results` as in comparison.json; of a single run it has one model."""

    kind: str  # 'compare' or 'train', the command that made it
    results: dict[str, Any]
    config: Config
    cases: list[Case]
    histories: dict[str, list[dict[str, float]]]
    renamed: dict[str, str]  # names of cases that stay out of the page, by what stands there instead


def gather(workdir: Path) -> Findings:
    """Everything the page shows of a run folder, of `liver-jax compare` or `train`.

    Raises:
        UserError: no run there, an unfinished one, or its slice store is gone or another.
    """
    config = read_run_config(workdir)
    file = workdir / 'comparison.json'
    networks: list[str] = [name for name in NETWORKS if (workdir / name).is_dir()]
    if networks and not file.exists():
        raise UserError(f'{workdir}: an unfinished comparison; expected comparison.json, let `liver-jax compare` end')
    compared = _read_json(file, 'protocol', 'models') if file.exists() else None
    runs = {name: load_run(workdir / name) for name in networks} if compared else {}
    if compared and set(runs) != set(compared['models']):
        raise UserError(f'{workdir}: networks {sorted(runs)}; expected {sorted(compared["models"])} of comparison.json')
    if not compared:
        run = load_run(workdir)
        runs = {str(run.config.model.name): run}
    store = open_store(config)
    split = read_split(workdir / 'split.json', store)
    for name, run in runs.items():
        check_trained_on(workdir / 'split.json', split, run.split)
        if compared and compared['models'][name]['best_step'] != run.step:
            raise UserError(
                f'{workdir / name}: its best checkpoint is of step {run.step}, comparison.json speaks of '
                f'{compared["models"][name]["best_step"]}; run `liver-jax compare` again'
            )
    results = compared or _single(workdir, next(iter(runs.values())), store, split)
    folders = {name: workdir / name if compared else workdir for name in runs}
    cases, renamed = _cases(store, split.rows['test'], runs)
    return Findings(
        'compare' if compared else 'train',
        results,
        config if compared else next(iter(runs.values())).config,
        cases,
        {DISPLAY_NAMES[name]: read_history(folder) for name, folder in folders.items()},
        renamed,
    )


def _read_json(path: Path, *expected: str) -> dict[str, Any]:
    try:
        values: dict[str, Any] = json.loads(path.read_text())
        missing = [key for key in expected if not isinstance(values[key], dict)]
        if missing:
            raise ValueError(f'{missing[0]} is no object')
        return values
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f'{type(error).__name__}: {error}'
        raise UserError(f'{path}: not readable ({reason}); delete it and run the command that made it again') from error


def _single(workdir: Path, run: Run, store: SliceStore, split: Split) -> dict[str, Any]:
    """The results of one network in the form of comparison.json: as evaluated before, or else evaluated now."""
    file, config = workdir / 'evaluation' / 'test.json', run.config
    found = _read_json(file, 'summary') if file.exists() else {}
    if found.get('step') != run.step:
        scores = run.evaluator(store, split.rows['test']).run(run.variables)
        found = describe_results(run, scores, about_part(split, 'test'))
    if 'baselines' not in found:  # `compare` keeps them elsewhere
        found['baselines'] = {'all_zero': summarise(score_empty(store, split.rows['test'], config.data.target))}
    costs = describe_model(run.model, config.data.image_size)
    protocol = {
        **describe_protocol(config),
        'counts': split.counts,
        'certificate': split.certificate,
        'split_digest': split.digest,
        'empty_rule': EMPTY_RULE,
        'patients': store.manifest['patients'],
        'warning': split.warning,
    }
    models = {str(config.model.name): {**found['summary'], **costs, 'best_step': run.step}}
    more: dict[str, Any] = {key: found[key] for key in ('baselines', 'panel', 'intervals') if key in found}
    return {'protocol': protocol, 'models': models, **more}


def _cases(store: SliceStore, rows: np.ndarray, runs: dict[str, Run]) -> tuple[list[Case], dict[str, str]]:
    target = next(iter(runs.values())).config.data.target
    predicted = {DISPLAY_NAMES[name]: run.evaluator(store, rows).predict(run.variables) for name, run in runs.items()}
    owners = np.array([store.rows[row].case for row in rows])
    patients = dict.fromkeys(store.rows[row].patient for row in rows)
    numbers = {patient: f'patient {number}' for number, patient in enumerate(patients, 1)}
    manifest = {case['name']: case for case in store.manifest['cases']}
    cases, renamed = [], {}
    for number, name in enumerate(dict.fromkeys(owners.tolist()), 1):
        chosen = np.flatnonzero(owners == name)
        shown = name if _PLAIN_NAME.fullmatch(name) else f'case {number}'
        if shown != name:
            renamed[shown] = name
        entry, own = manifest[name], rows[chosen]
        truth = store.masks(own, target) >= HALF
        predictions = {network: masks[chosen] for network, masks in predicted.items()}
        indices = np.array([store.rows[row].index for row in own])
        spacing = grid_spacing(entry, store.manifest['settings']['image_size'])
        everywhere = np.array([row for row, each in enumerate(store.rows) if each.case == name])
        all_indices = np.array([store.rows[row].index for row in everywhere])
        all_truth = store.masks(everywhere, target) >= HALF
        lesions, false = find_lesions(all_truth, all_indices, predictions, indices, spacing)
        dice = {network: _dice(masks, truth, (0, 1, 2)) for network, masks in predictions.items()}
        slice_dice = {network: _dice(masks, truth, (1, 2)) for network, masks in predictions.items()}
        cases.append(
            Case(
                shown,
                numbers[store.rows[own[0]].patient],
                indices,
                store.images(own),
                truth,
                predictions,
                spacing,
                {network: float(value) for network, value in dice.items()},
                slice_dice,
                lesions,
                false,
            )
        )
    return cases, renamed


def grid_spacing(case: dict[str, Any], side: int) -> tuple[float, float, float]:
    """Millimetres between slices, rows and columns once the padded plane has `side` pixels; 1 where unknown."""
    spacing = [float(value) for value in case.get('spacing_mm') or (1, 1, 1)]
    axes = zip(case.get('shape', ()), case.get('orientation') or '', strict=False)
    longest = max((size for size, letter in axes if letter in 'LRAP'), default=side)
    return spacing[0], spacing[1] * longest / side, spacing[2] * longest / side


def _dice(prediction: np.ndarray, truth: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    pairs = (prediction & truth, prediction & ~truth, ~prediction & truth, ~prediction & ~truth)
    return overlap_scores(Counts(*(np.sum(pair, axis=axes) for pair in pairs)))['dice']
