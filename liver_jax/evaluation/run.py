"""A trained network as its run folder has it, the store that it was trained on, and its results as data."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from jax.sharding import Mesh

from liver_jax.config import NETWORKS, PATIENT_SOURCES, Config
from liver_jax.data.certificate import Record
from liver_jax.data.prepare import check_store, raw_cases, store_settings
from liver_jax.data.store import SliceStore
from liver_jax.errors import UserError
from liver_jax.evaluation.evaluate import Evaluator
from liver_jax.evaluation.scores import ImageScores, case_scores, image_scores, summarise
from liver_jax.metrics.losses import make_loss
from liver_jax.metrics.overlap import EMPTY_RULE
from liver_jax.models import build_model
from liver_jax.runtime.checkpoint import Checkpoints, abstract
from liver_jax.runtime.mesh import own_mesh, replicated
from liver_jax.runtime.run_folder import read_run_config


@dataclasses.dataclass(frozen=True)
class Run:
    """A trained network as its run folder has it."""

    config: Config
    model: nn.Module
    mesh: Mesh
    step: int
    variables: Any
    split: str  # digest of the one it was trained on

    def evaluator(self, store: SliceStore, rows: np.ndarray) -> Evaluator:
        """The evaluator of this network on rows of a store."""
        return make_evaluator(self.config, self.model, self.mesh, store, rows)


def make_evaluator(config: Config, model: nn.Module, mesh: Mesh, store: SliceStore, rows: np.ndarray) -> Evaluator:
    """The evaluator of a network on rows of a store, with batches that these devices can share.

    Those that it was trained on may have been another number; scores do not depend on the batch.
    """
    even = -(-config.eval.batch_size // mesh.size) * mesh.size
    settings = dataclasses.replace(config.eval, batch_size=even)
    return Evaluator(model, store, rows, config.data.target, settings, mesh, make_loss(config.loss))


def run_config(workdir: Path, store: str = '') -> Config:
    """The config of a run; with `store`, its slices are there and not where they were in training."""
    config = read_run_config(workdir)
    return dataclasses.replace(config, data=dataclasses.replace(config.data, store=store)) if store else config


def load_run(workdir: Path, checkpoint: str = 'best', store: str = '') -> Run:
    """A run as its folder has it, on the devices of this process; `checkpoint` is 'best', 'latest' or a step.

    `store` is as in `run_config`.

    Raises:
        UserError: no such run or checkpoint.
    """
    _refuse_comparison(workdir)
    config = run_config(workdir, store)
    folder = workdir / 'checkpoints'
    if not folder.is_dir():
        raise UserError(f'{folder}: no checkpoints there; expected a run that finished its first epoch')
    model, mesh = build_model(config.model), own_mesh()
    like = abstract(variables_shape(model, config.data.image_size), replicated(mesh))
    with Checkpoints(folder, read_only=True) as checkpoints:
        step = checkpoints.find(checkpoint)
        variables = checkpoints.restore_model(step, like)
        trained_on = str(checkpoints.progress(step).get('split', ''))
    return Run(config, model, mesh, step, variables, trained_on)


def _refuse_comparison(workdir: Path) -> None:
    """A comparison has no network of its own, but its runs have, a pair for each seed and fold."""
    if (workdir / 'checkpoints').is_dir():
        return
    found = [sorted(workdir.glob(f'{levels}{name}/checkpoints')) for levels in ('', '*/', '*/*/') for name in NETWORKS]
    runs = [folder.parent for each in found for folder in each]
    if runs:
        more = f' (or one of {len(runs) - 2} others)' if len(runs) > 2 else ''
        expected = ' or '.join(f'--workdir={run}' for run in runs[:2])
        raise UserError(f'{workdir}: a comparison, with a network in each of its runs; use {expected}{more}')


def variables_shape(model: nn.Module, image_size: int) -> Any:
    """Shapes of `params` and `batch_stats` (empty without batch norm), nothing computed."""
    image = jax.ShapeDtypeStruct((1, image_size, image_size, 1), np.float32)
    shapes = jax.eval_shape(lambda key, x: model.init(key, x, train=False), jax.random.key(0), image)
    return {'params': shapes['params'], 'batch_stats': shapes.get('batch_stats', {})}


def open_store(config: Config, with_volumes: bool = False) -> SliceStore:
    """The store of a config, checked against its settings, and against the raw volumes where they are at hand."""
    store = SliceStore(Path(config.data.store))
    cases, source = None, ''
    if with_volumes and config.data.raw and Path(config.data.raw).is_dir():
        cases, source = raw_cases(config.data)
    elif with_volumes and config.data.patients not in PATIENT_SOURCES:
        raise UserError(
            f'config field data.patients is {config.data.patients!r}, but data.raw ({config.data.raw!r}) is no folder; '
            'expected the volumes it speaks of, set data.raw to them'
        )
    check_store(store.path, store_settings(config.data), cases, source)
    return store


def about_part(split: Record, part: str) -> dict[str, Any]:
    """Which slices are scored, of which split."""
    return {
        'split': part,
        'split_by': split.settings['by'],
        'split_digest': split.digest,
        'certificate': split.certificate,
        'warning': split.warning,
    }


def describe_protocol(config: Config) -> dict[str, Any]:
    """What the config says of a comparison or run that its numbers depend on."""
    return {
        'target': config.data.target,
        'slices': config.data.slices,
        'split': config.split.by,
        'image_size': config.data.image_size,
        'threshold': config.eval.threshold,
        'seed': config.seed,
    }


def describe_results(run: Run, scores: ImageScores, about: dict[str, Any]) -> dict[str, Any]:
    """The results as plain data, rules beside the numbers; `about` says which slices they are of (`about_part`)."""
    config = run.config
    return {
        **about,
        'step': run.step,
        'model': config.model.name,
        'target': config.data.target,
        'slices_kept': config.data.slices,
        'image_size': config.data.image_size,
        'threshold': config.eval.threshold,
        'empty_rule': EMPTY_RULE,
        'summary': summarise(scores),
        'cases': case_scores(scores),
        'images': image_scores(scores),
    }
