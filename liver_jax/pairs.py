"""The pairs of networks that `compare` trains: one, or one per seed and fold.

Within a pair the two networks share split, order of slices, augmentation draws and seed of the initial parameters, so
that only the architecture differs.
"""

import dataclasses
import logging
from pathlib import Path

from liver_jax.config import NETWORKS, CompareConfig, Config
from liver_jax.data.certificate import check_trained_on, read_record, write_split
from liver_jax.data.layouts import Case
from liver_jax.data.splits import Split, load_or_make_split
from liver_jax.data.store import SliceStore
from liver_jax.errors import UserError
from liver_jax.evaluation.assess import Assessment, assess
from liver_jax.evaluation.fitting import fit
from liver_jax.evaluation.results import describe_one
from liver_jax.evaluation.run import Run, about_part, describe_results, load_run
from liver_jax.evaluation.scans import make_part
from liver_jax.evaluation.scores import ImageScores
from liver_jax.evaluation.volumes import make_predictor
from liver_jax.runtime.distributed import first_before_others
from liver_jax.runtime.interrupt import StopRequest
from liver_jax.runtime.run_folder import pair_folder, write_json
from liver_jax.training.announcement import model_line
from liver_jax.training.loop import train

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Pair:
    """What a pair is trained with, and where: `folder` holds its split and a run folder per network."""

    folder: Path
    networks: dict[str, Config]

    @property
    def config(self) -> Config:
        """What both have in common; `model.name` means nothing here."""
        return next(iter(self.networks.values()))


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A trained pair and what it scored on its test set; of the networks only the best step is kept."""

    pair: Pair
    split: Split
    scores: dict[str, ImageScores]
    steps: dict[str, int]
    assessment: Assessment


def plan_pairs(config: Config, workdir: Path) -> list[list[Pair]]:
    """The pairs by seed, then by fold: `fold-K/seed-N` below `workdir`, a level left out where there is one of it."""
    seeds = range(config.seed, config.seed + config.compare.seeds)
    return [[_pair(config, workdir, seed, fold) for fold in range(max(config.compare.folds, 1))] for seed in seeds]


def train_pair(pair: Pair, store: SliceStore, stop: StopRequest) -> None:
    """Train what is not trained yet, in all processes of the job, until a `stop` is asked for."""
    with first_before_others():
        split = load_or_make_split(pair.folder / 'split.json', store, pair.config.split)
        for name, config in pair.networks.items():
            _share_split(split, pair.folder / name / 'split.json')
            log.info('%s', model_line(config))
    for name, config in pair.networks.items():
        train(config, pair.folder / name, stop)


def score_pair(pair: Pair, store: SliceStore, scans: dict[str, Case] | None, note: str) -> Outcome:
    """Score both best checkpoints on the test part of the split, in one process.

    `scans` and `note` are those of `find_scans`.
    """
    split = load_or_make_split(pair.folder / 'split.json', store, pair.config.split)
    runs: dict[str, Run] = {}
    scores: dict[str, ImageScores] = {}
    for name in pair.networks:
        runs[name] = load_run(pair.folder / name)
        check_trained_on(pair.folder / 'split.json', split, runs[name].split)
        scores[name] = runs[name].evaluator(store, split.rows['test']).run(runs[name].variables)
    log.info('reading the scores in every way%s', '' if scans is None else ', at native resolution too')
    predictors = {name: make_predictor(run) for name, run in runs.items()}
    target = pair.config.data.target
    fitted = {name: fit(predictor, store, split, target, scans) for name, predictor in predictors.items()}
    assessment = assess(predictors, pair.config, make_part(store, split, 'test', scans), scores, fitted)
    for name, run in runs.items():
        results = describe_results(run, scores[name], about_part(split, 'test'))
        results |= describe_one(assessment.only(name), note, run.config.seed)
        write_json(pair.folder / name / 'evaluation' / 'test.json', results)
    return Outcome(pair, split, scores, {name: run.step for name, run in runs.items()}, assessment)


def _pair(config: Config, workdir: Path, seed: int, fold: int) -> Pair:
    several = config.compare.folds > 0
    folder = pair_folder(workdir, seed if config.compare.seeds > 1 else None, fold if several else None)
    split = dataclasses.replace(config.split, folds=config.compare.folds, fold=fold) if several else config.split
    both = dataclasses.replace(config, seed=seed, split=split, compare=CompareConfig(seeds=1, folds=0))
    return Pair(
        folder,
        {name: dataclasses.replace(both, model=dataclasses.replace(both.model, name=name)) for name in NETWORKS},
    )


def _share_split(split: Split, own: Path) -> None:
    """Give a network the split of the comparison; one that has another is refused."""
    if not own.exists():
        write_split(own, split)
    elif read_record(own).digest != split.digest:
        raise UserError(f'{own}: another split than that of the comparison; expected the same, use a new --workdir')
