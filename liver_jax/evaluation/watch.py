"""`liver-jax evaluate --watch`: scores every checkpoint of a run beside its training, which may be on another machine.

It reads what training writes and writes nothing that training reads: a row per checkpoint to
`WORKDIR/evaluation/watch_PART.jsonl` and to `WORKDIR/tensorboard/watch_PART`, a curve beside those of training. A
checkpoint that has a row is never scored again. One that training has removed before its turn came has none.
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path

from liver_jax.config import Config
from liver_jax.data.certificate import check_trained_on
from liver_jax.data.splits import Split, read_split
from liver_jax.errors import UserError
from liver_jax.evaluation.evaluate import Evaluator
from liver_jax.evaluation.run import make_evaluator, open_store, run_config, variables_shape
from liver_jax.evaluation.scores import summarise
from liver_jax.files import locked
from liver_jax.models import build_model
from liver_jax.runtime.checkpoint import Checkpoints, Damaged, abstract
from liver_jax.runtime.interrupt import Interrupted, StopRequest, watch_signals
from liver_jax.runtime.mesh import own_mesh, replicated
from liver_jax.runtime.telemetry import ScoreLog, read_history

log = logging.getLogger(__name__)
POLL_SECONDS = 2.0  # a look at two folders; a checkpoint takes longer to save


def watch(workdir: Path, part: str, store: str = '') -> str:
    """Score checkpoints on a part of the split ('val' or 'test') until training has ended; what was done, in words.

    Training has ended when its newest checkpoint says that nothing is left to do, or when a flight record says that it
    cannot go on. `store` is where the slices of the run are, if not where they were in training.

    Raises:
        UserError: another process watches this part; a store or split that is not the run's.
        Interrupted: SIGINT or SIGTERM; the same call goes on.
    """
    name = f'watch_{part}'
    with watch_signals() as stop:
        if not (workdir / 'checkpoints').is_dir():
            log.info('%s: no checkpoints there yet; waiting', workdir)
            _wait((workdir / 'checkpoints').is_dir, stop)
        with (
            locked(workdir / 'tensorboard' / name),
            Checkpoints(workdir / 'checkpoints', read_only=True) as checkpoints,
        ):
            scores = ScoreLog(workdir, name)
            try:
                watched = _Watch(workdir, part, run_config(workdir, store), checkpoints, scores, stop)
                log.info('%s: watching its checkpoints on split %r', workdir, part)
                _wait(watched.look, stop)
            finally:
                scores.close()
    return f'{len(scores.rows)} checkpoints of {workdir}: {workdir / "evaluation" / name}.jsonl'


def _wait(done: Callable[[], bool], stop: StopRequest) -> None:
    while not done():
        if stop.reached():
            raise Interrupted('stopped watching')
        time.sleep(POLL_SECONDS)


class _Watch:
    """What is known of a run's checkpoints."""

    def __init__(
        self, workdir: Path, part: str, config: Config, checkpoints: Checkpoints, scores: ScoreLog, stop: StopRequest
    ) -> None:
        self._workdir, self._part, self._config = workdir, part, config
        self._checkpoints, self._scores, self._stop = checkpoints, scores, stop
        self._seen = {int(row['step']) for row in scores.rows}
        self._model, self._mesh = build_model(config.model), own_mesh()
        self._like = abstract(variables_shape(self._model, config.data.image_size), replicated(self._mesh))
        self._opened: tuple[Split, Evaluator] | None = None

    def look(self) -> bool:
        """Score what is new; whether training has ended and nothing is left."""
        while new := [step for step in self._steps() if step not in self._seen]:
            if self._stop.reached():
                raise Interrupted('stopped watching')
            self._seen.add(new[0])  # the one that training removes first
            self._try(new[0])
            self._tell_of_missed(new[0])
        return self._ended(max(self._steps(), default=0))

    def _steps(self) -> list[int]:
        self._checkpoints.reload()
        return self._checkpoints.steps()

    def _try(self, step: int) -> None:
        try:
            self._score(step)
        except Damaged as error:
            folder = self._workdir / 'checkpoints' / str(step)
            if folder.is_dir():
                time.sleep(POLL_SECONDS)  # training may be at removing it
            gone = 'removed by training before it was scored'
            why = f'damaged ({error.reason}), no score' if folder.is_dir() else gone
            log.warning('step %d: %s', step, why)

    def _tell_of_missed(self, step: int) -> None:
        """Checkpoints before this step that came and went between two looks."""
        saved = {int(row['step']) for row in read_history(self._workdir) if 'val/loss' in row}
        if every := self._config.train.save_every_steps:
            saved.update(range(every, step, every))
        missed = sorted(each for each in saved - self._seen if each < step)
        self._seen.update(missed)
        if missed:
            words = ', '.join(map(str, missed))
            log.warning('step %s: removed by training before it was scored', words)

    def _score(self, step: int) -> None:
        variables, progress = self._checkpoints.restore_model(step, self._like), self._checkpoints.progress(step)
        split, evaluator = self._opened = self._opened or self._open()
        check_trained_on(self._workdir / 'split.json', split, progress['split'])
        scores = evaluator.run(variables)
        if bad := len(scores.not_finite):
            log.warning('step %d: the loss of %d slices of %d is no number', step, bad, len(scores.slices))
        summary = summarise(scores)
        self._scores.add(step, {f'{self._part}/{name}': value for name, value in summary.items()})
        log.info(
            'step %d: %s loss %.4f, Dice %.4f per image, %.4f pooled',
            step, self._part, summary['loss'], summary['dice_image'], summary['dice_pooled'],
        )  # fmt: skip

    def _open(self) -> tuple[Split, Evaluator]:
        """Once there is a checkpoint, so are split and store."""
        path = Path(self._config.data.store)
        if not path.exists():
            raise UserError(
                f'{path}: the slice store of {self._workdir} is not there; '
                'expected the slices that it was trained on, say where they are now with --store'
            )
        store = open_store(self._config)
        split = read_split(self._workdir / 'split.json', store)
        return split, make_evaluator(self._config, self._model, self._mesh, store, split.rows[self._part])

    def _ended(self, newest: int) -> bool:
        """Whether training is over: as its newest checkpoint says, or a flight record of a step beyond it."""
        records = [path.parent for path in self._workdir.glob('flight-*/record.json')]
        beyond = [path for path in records if int(path.name.partition('-')[2]) > newest]
        if beyond:
            log.warning('training met a number that is not finite, see: liver-jax replay %s', beyond[0])
            return True
        try:
            return newest > 0 and bool(self._checkpoints.progress(newest)['finished'])
        except Damaged:
            return False
