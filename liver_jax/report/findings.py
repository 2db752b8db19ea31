"""What a run folder has to say, gathered for the page: its numbers as written, and its test slices predicted again."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from liver_jax.config import NETWORKS, CompareConfig, Config
from liver_jax.data.certificate import check_trained_on
from liver_jax.data.splits import read_split
from liver_jax.data.store import SliceStore
from liver_jax.errors import UserError
from liver_jax.evaluation.results import evaluate_run
from liver_jax.evaluation.run import Run, describe_protocol, load_run, open_store
from liver_jax.metrics.overlap import EMPTY_RULE
from liver_jax.models import DISPLAY_NAMES, describe_model
from liver_jax.report.cases import Case, make_cases
from liver_jax.runtime.run_folder import pair_folder, read_run_config
from liver_jax.runtime.telemetry import read_history

# Parts of the results and fields that each must have; where a part is a list, each of its entries.
_PARTS: dict[str, Any] = {
    'baselines': (),
    'panel': ['target', 'average', 'resolution', 'slices', 'empty_rule', 'model', 'dice'],
    'calibration': (),
    'fitted': (),
    'intervals': (),
    'patient_dice': (),
    'volumes': ('note', 'target', 'threshold', 'networks', 'cases'),
}
_OF_ONE = _PARTS | {'summary': (), 'calibration': ('bins', 'ece', 'brier', 'temperature', 'with_temperature')}
_OF_PAIRS = _PARTS | {
    'protocol': ('target', 'slices', 'split', 'image_size', 'threshold', 'seed', 'seeds', 'folds', 'counts'),
    'models': NETWORKS,
    'runs': ['seed', 'fold', 'best_step'],
    'paired': ('of', 'metric', 'verdict', 'differences', 'left_out', 'mean', 'low', 'high', 'p_value', 'patients'),
}


@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
    """The networks of a pair, or one, by display name; `title` ('fold 1, seed 0') is empty where nothing else is."""

    title: str
    histories: dict[str, list[dict[str, float]]]
    steps: dict[str, int]  # of the checkpoints that were scored


@dataclasses.dataclass(frozen=True, eq=False)
class Findings:
    """A comparison or a single run: `results` as in comparison.json; of a single run it has one model.

    `cases` are those of the first seed, each as predicted in the fold that tests it.
    """

    kind: str  # 'compare' or 'train', the command that made it
    results: dict[str, Any]
    config: Config
    trained: list[Trained]
    cases: list[Case]
    renamed: dict[str, str]  # names of cases that stay out of the page, by what stands there instead
    patients: dict[str, str]  # what patients are called in the page, by their names

    @property
    def networks(self) -> list[str]:
        """Their display names."""
        return list(self.trained[0].histories)


def gather(workdir: Path) -> Findings:
    """Everything the page shows of a run folder, of `liver-jax compare` or `train`.

    A single run that was not evaluated yet is evaluated as by `liver-jax evaluate`.

    Raises:
        UserError: no run there, an unfinished one, one that was changed, or its slice store is gone or another.
    """
    config, file = read_run_config(workdir), workdir / 'comparison.json'
    if file.exists():
        return _comparison(workdir, config, _read_comparison(file))
    if any((workdir / name).is_dir() for name in NETWORKS) or config.compare != CompareConfig(seeds=1, folds=0):
        raise UserError(f'{workdir}: an unfinished comparison; expected comparison.json, let `liver-jax compare` end')
    return _single(workdir)


def _comparison(workdir: Path, config: Config, results: dict[str, Any]) -> Findings:
    protocol = results['protocol']
    tested, trained = [], []
    for run in results['runs']:
        seed, fold = (run['seed'] if protocol['seeds'] > 1 else None), run['fold']
        folder, steps = pair_folder(workdir, seed, fold), {name: run['best_step'][name] for name in results['models']}
        if run['seed'] == results['runs'][0]['seed']:
            tested.append((folder, {name: _load(folder / name, step) for name, step in steps.items()}))
        levels = {'fold': fold, 'seed': seed}
        title = ', '.join(f'{name} {number}' for name, number in levels.items() if number is not None)
        trained.append(_trained({name: folder / name for name in steps}, steps, title))
    config = dataclasses.replace(config, compare=CompareConfig(seeds=protocol['seeds'], folds=protocol['folds']))
    return Findings('compare', results, config, trained, *_cases(open_store(config), tested, results))


def _single(workdir: Path) -> Findings:
    run = load_run(workdir)
    name, store = str(run.config.model.name), open_store(run.config)
    split, costs = read_split(workdir / 'split.json', store), describe_model(run.model, run.config.data.image_size)
    found = _evaluated(workdir, run.step, split.digest)
    protocol = {
        **describe_protocol(run.config),
        'counts': split.counts,
        'certificate': split.certificate,
        'split_digest': split.digest,
        'empty_rule': EMPTY_RULE,
        'patients': store.manifest['patients'],
        'warning': split.warning,
    }
    results = {
        'protocol': protocol,
        'models': {name: {**found['summary'], **costs, 'best_step': run.step}},
        **{part: found[part] for part in _PARTS if part in found},
        'calibration': {name: found['calibration']},
        'fitted': {name: [[found['fitted']]]},
    }
    trained = [_trained({name: workdir}, {name: run.step}, '')]
    return Findings('train', results, run.config, trained, *_cases(store, [(workdir, {name: run})], results))


def _evaluated(workdir: Path, step: int, split_digest: str) -> dict[str, Any]:
    """The results of the best checkpoint on the test part, as they lie there, else made now."""
    file = workdir / 'evaluation' / 'test.json'
    found = _read_json(file) if file.exists() else {}
    if (found.get('step'), found.get('split_digest')) == (step, split_digest) and not _faults(found, _OF_ONE):
        return found
    return evaluate_run(workdir, 'best', 'test', None)


def _trained(folders: dict[str, Path], steps: dict[str, int], title: str) -> Trained:
    """Of the run folders of networks, by key."""
    histories = {DISPLAY_NAMES[name]: read_history(folder) for name, folder in folders.items()}
    return Trained(title, histories, {DISPLAY_NAMES[name]: step for name, step in steps.items()})


def _load(folder: Path, step: int) -> Run:
    run = load_run(folder)
    if run.step != step:
        raise UserError(
            f'{folder}: its best checkpoint is of step {run.step}, comparison.json speaks of {step}; '
            'run `liver-jax compare` again'
        )
    return run


def _cases(
    store: SliceStore, tested: Sequence[tuple[Path, dict[str, Run]]], results: dict[str, Any]
) -> tuple[list[Case], dict[str, str], dict[str, str]]:
    """Folds as one test set, each slice as the networks see it that were not trained on it; as `make_cases`."""
    rows, masks = [], []
    for folder, runs in tested:
        split = read_split(folder / 'split.json', store)
        rows.append(split.rows['test'])
        for run in runs.values():
            check_trained_on(folder / 'split.json', split, run.split)
        masks.append({name: run.evaluator(store, rows[-1]).predict(run.variables) for name, run in runs.items()})
    joined = np.concatenate(rows)
    order = np.argsort(joined, kind='stable')
    predicted = {DISPLAY_NAMES[name]: np.concatenate([fold[name] for fold in masks])[order] for name in masks[0]}
    cases, renamed, patients = make_cases(
        store, joined[order], predicted, results['protocol']['target'], results['volumes']
    )
    paired = results.get('paired', {'differences': {}, 'left_out': []})
    for patient in [*paired['differences'], *paired['left_out']]:  # perhaps of scans without a slice
        patients.setdefault(patient, f'patient {len(patients) + 1}')
    return cases, renamed, patients


def _read_json(file: Path) -> dict[str, Any]:
    try:
        values = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise UserError(_broken(file, f'{type(error).__name__}: {error}')) from error
    if not isinstance(values, dict):
        raise UserError(_broken(file, f'{type(values).__name__}, no object'))
    return values


def _read_comparison(file: Path) -> dict[str, Any]:
    values = _read_json(file)
    fault = _faults(values, _OF_PAIRS)
    if not fault and any(values['models'].keys() != dict(run['best_step']).keys() for run in values['runs']):
        fault = 'runs and models are of other networks'
    if fault:
        raise UserError(_broken(file, fault))
    return values


def _faults(values: dict[str, Any], expected: dict[str, Any]) -> str:
    """What is wrong first, in words: every part must be there, of its kind, with its fields; empty if all is well."""
    for name, fields in expected.items():
        part = values.get(name)
        entries: list[Any] = part if isinstance(part, list) else [part]
        well = entries and all(isinstance(entry, dict) for entry in entries)
        if not well or isinstance(fields, list) != isinstance(part, list):
            return f'{name} is missing or garbled'
        for field in fields:
            if not all(field in entry for entry in entries):
                return f'{name} has no {field}'
    return ''


def _broken(file: Path, fault: str) -> str:
    return f'{file}: not readable ({fault}); delete it and run the command that made it again'
