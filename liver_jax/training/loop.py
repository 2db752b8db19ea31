"""The training run: evaluate -> save -> stop? -> next batch -> step -> log, in this order, until it stops or ends.

The order matters: a checkpoint at step n holds the state and stream position before step n, together with every
validation up to there, so a run that goes on from it repeats nothing and skips nothing.
"""

import dataclasses
import logging
import time
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn

import jax
import numpy as np

from liver_jax.config import Config
from liver_jax.data.certificate import check_trained_on
from liver_jax.data.splits import Split, load_or_make_split, make_split
from liver_jax.data.store import SliceStore
from liver_jax.data.stream import steps_per_epoch
from liver_jax.errors import UserError
from liver_jax.evaluation.run import open_store
from liver_jax.files import locked
from liver_jax.models import DISPLAY_NAMES
from liver_jax.runtime.checkpoint import Checkpoints, abstract
from liver_jax.runtime.determinism import check_determinism
from liver_jax.runtime.distributed import first_before_others, is_first, place
from liver_jax.runtime.environment import describe_environment, environment_changes
from liver_jax.runtime.interrupt import Ended, Interrupted, StopRequest, Wish, watch_signals
from liver_jax.runtime.mesh import check_divisible, make_mesh, put_whole, replicated
from liver_jax.runtime.run_folder import check_trained_with, open_run
from liver_jax.runtime.telemetry import Telemetry
from liver_jax.training.announcement import announce
from liver_jax.training.display import Display
from liver_jax.training.early_stopping import EarlyStopping
from liver_jax.training.feed import Feed
from liver_jax.training.meter import Meter, NotFinite
from liver_jax.training.progress import Progress
from liver_jax.training.recipe import make_recipe
from liver_jax.training.recorder import Recorder, go_back
from liver_jax.training.state import TrainState, init_state, join_state, state_shape
from liver_jax.training.step import Metrics, StepFn, make_train_step
from liver_jax.training.validation import Validation

log = logging.getLogger(__name__)


def train(config: Config, workdir: Path, stop: StopRequest | None = None) -> Path:
    """Train one network in `workdir`, or go on with it; a finished run is left as it is. Returns `workdir`.

    Without a `stop` of the caller's, the run obeys signals, the file WORKDIR/stop and `train.max_hours`.

    Raises:
        UserError: a store, split or run folder that does not fit the config, or a non-finite loss.
        Interrupted: Ctrl-C or SIGTERM; everything is saved and the same call goes on.
        Ended: the stop file or the time budget; everything is evaluated and saved, and the same call goes on.
    """
    if stop is None:
        with watch_signals(workdir / 'stop', config.train.max_hours) as stop:
            return train(config, workdir, stop)
    if config.train.deterministic:
        check_determinism()
    mesh = make_mesh()
    check_divisible('train.batch_size', config.train.batch_size, mesh, config.train.accumulate)
    check_divisible('eval.batch_size', config.eval.batch_size, mesh)
    store = open_store(config, with_volumes=True)
    make_split(store, config.split)  # before the run folder is made: what cannot be split leaves nothing behind
    with ExitStack() as stack:
        with first_before_others():
            if is_first():
                open_run(workdir, config)
            split = load_or_make_split(workdir / 'split.json', store, config.split)
            if is_first():
                stack.enter_context(locked(workdir))
        announce(config, split, mesh.size)
        checkpoints = stack.enter_context(Checkpoints(workdir / 'checkpoints'))
        run = _Run(config, workdir, store, split, mesh, checkpoints, stop)
        if run.finished:
            log.info('%s: already finished at step %d', workdir, run.step)
        else:
            run.to_the_end()
    return workdir


class _Run:
    """One run in progress: the state, the stream, and where they stand."""

    def __init__(
        self,
        config: Config,
        workdir: Path,
        store: SliceStore,
        split: Split,
        mesh: jax.sharding.Mesh,
        checkpoints: Checkpoints,
        stop: StopRequest,
    ) -> None:
        self.config, self.workdir, self.store, self.split = config, workdir, store, split
        self.mesh, self.checkpoints, self.stop = mesh, checkpoints, stop
        rows = split.rows['train']
        self.epoch_steps = steps_per_epoch(len(rows), config.train.batch_size)
        self.total = self.epoch_steps * config.train.epochs
        self.recipe = make_recipe(config, self.epoch_steps)
        self.step_fn: StepFn = make_train_step(self.recipe, mesh)
        self.validation = Validation(self.recipe.model, config, store, split, mesh)
        fresh = EarlyStopping(config.train.patience, config.train.min_delta)
        self.progress = self.fresh = Progress({'next_index': 0}, fresh, split.digest)
        self.about = {'config': dataclasses.asdict(config), 'environment': describe_environment()}
        self.step = self.started = 0
        checkpoints.newest(self._continue)

    def _continue(self, step: int) -> None:
        """Stand where the checkpoint of this step was saved, which must be one of this config and split."""
        progress, about = Progress.from_json(self.checkpoints.progress(step)), self.checkpoints.about(step)
        check_trained_on(self.workdir / 'split.json', self.split, progress.split)
        check_trained_with(self.workdir, about['config'], self.config)
        self.step, self.progress = step, progress

    @property
    def finished(self) -> bool:
        """Whether nothing is left to train or validate."""
        validated = self.progress.validated == self.step
        return validated and (self.step >= self.total or self.progress.stopping.should_stop)

    def to_the_end(self) -> None:
        """The loop."""
        feed = Feed(self.config, self.store, self.split.rows['train'], self.mesh, self.total)
        log.info('compiling; with an empty cache this takes up to a minute')
        state, metrics = self._initial_state(), None
        self.started = self.step
        feed.set_state(self.progress.position)
        meter, validated = Meter(self.progress.losses), self.progress.validated == self.step
        with (
            Telemetry(self.workdir, self.step, validated) as telemetry,
            Display(self.config, telemetry, self.step, self.epoch_steps, self.mesh) as display,
        ):
            try:
                while True:
                    if self.step and self.step % self.epoch_steps == 0 and self.progress.validated != self.step:
                        self._log(display, meter, feed)
                        seconds = self._validate(state, telemetry)
                        if seconds is not None:
                            display.validated(seconds)
                            self._save(state, feed, meter)
                            meter.restart()
                            self._warn_of_waiting(feed)
                    elif self._save_due:
                        self._log(display, meter, feed)
                        self._save(state, feed, meter)
                    if self.finished:
                        break
                    if wish := self.stop.reached():
                        self._log(display, meter, feed)
                        self._end(wish, state, telemetry, feed, meter)
                    with jax.transfer_guard('disallow'):
                        batch = feed.next_batch(metrics['loss'] if metrics else None)
                        state, metrics = self.step_fn(state, batch)
                    if self.step % self.config.train.log_every_steps == 0:
                        self._log(display, meter, feed)
                    self.step += 1
                    meter.add(self.step, metrics)
                    self._hold(metrics)
                    display.advance()
            except NotFinite as bad:
                held = state if bad.rows else None
                del state, metrics  # room for the step to be looked at
                raise self._not_finite(bad, held, feed) from bad
            finally:
                feed.close()
        self._check_saved()
        self.stop.release()
        reason = 'no improvement' if self.progress.stopping.should_stop else 'all epochs done'
        log.info('finished at step %d (%s); best step %s', self.step, reason, self.progress.best_step)

    def _hold(self, metrics: Metrics) -> None:
        """Now there is something to save. Processes leave each for itself until all have compiled, then together."""
        if place()[1] > 1 and self.step == self.started + 1:
            jax.block_until_ready(metrics)
        self.stop.hold()

    def _initial_state(self) -> TrainState:
        """A fresh state, or that of the newest checkpoint that can be read."""
        size = self.config.data.image_size
        if not self.step:
            return init_state(self.recipe, size, self.config.seed, self.mesh)
        shapes = abstract(state_shape(self.recipe, size), replicated(self.mesh))
        restored = self.checkpoints.newest(lambda step: self._restore(step, shapes))
        assert restored is not None  # there was one, and `newest` raises where none of them can be read
        self.checkpoints.warn_of_damaged_best(shapes.variables)
        return restored

    def _restore(self, step: int, shapes: TrainState) -> TrainState:
        self._continue(step)
        variables, unscored = self.checkpoints.restore(step, shapes.variables, shapes.unscored)
        changes = environment_changes(self.checkpoints.about(step)['environment'], self.about['environment'])
        if changes:
            log.warning(
                'the checkpoint is from another environment (%s); the last digits may differ', '; '.join(changes)
            )
        log.info('going on from step %d of %d', step, self.total)
        count = put_whole(np.array(step, np.int32), replicated(self.mesh))
        return join_state(count, variables, unscored)

    def _validate(self, state: TrainState, telemetry: Telemetry) -> float | None:
        """Score the validation slices; decide on best and stopping. Seconds it took; None if a signal broke it off."""
        started = time.monotonic()
        try:
            summary = self.validation.run(state, self.step, telemetry, self.stop)
        except Interrupted:
            return None
        at_end = self.step % self.epoch_steps == 0
        self.progress = self.progress.after(self.step, self.validation.monitored(summary), at_end)
        log.info(
            '%s epoch %d of %d, step %d: val loss %.4f, Dice %.4f per image, %.4f pooled%s',
            DISPLAY_NAMES[self.config.model.name], -(-self.step // self.epoch_steps), self.config.train.epochs,
            self.step, summary['loss'], summary['dice_image'], summary['dice_pooled'],
            ' (best)' if self.progress.best_step == self.step else f' (best at step {self.progress.best_step})',
        )  # fmt: skip
        return time.monotonic() - started

    @property
    def _save_due(self) -> bool:
        every = self.config.train.save_every_steps
        return bool(every) and self.step > self.started and self.step % every == 0

    def _save(self, state: TrainState, feed: Feed, meter: Meter) -> None:
        meter.fetch()  # raises where a number was not finite: such a state is never saved
        self.progress = dataclasses.replace(
            self.progress, position=feed.get_state(), losses=meter.losses, finished=self.finished
        )
        self.checkpoints.save(self.step, state.variables, state.unscored, self.progress.to_json(), self.about)

    def _end(self, wish: Wish, state: TrainState, telemetry: Telemetry, feed: Feed, meter: Meter) -> NoReturn:
        """End early, as was asked: saved and, unless a signal hurries, evaluated, so that a best step is known."""
        if self.step > self.started:
            if wish == Wish.END and self.progress.validated != self.step and self._validate(state, telemetry) is None:
                wish = Wish.INTERRUPT
            self._save(state, feed, meter)
        saved = f'saved in {self.workdir}' if self.checkpoints.wait() else 'which could not be saved'
        where = f'at step {self.step} of {self.total}, {saved}'
        if wish == Wish.INTERRUPT:
            raise Interrupted(f'stopped {where}')
        self.stop.obeyed()
        raise Ended(f'ended {where} ({self.stop.reason})')

    def _check_saved(self) -> None:
        if not self.checkpoints.wait():
            raise UserError(
                f'{self.workdir}: trained, but the last checkpoint could not be saved; expected room for one, make it '
                'and start the same command again'
            )

    def _log(self, display: Display, meter: Meter, feed: Feed) -> None:
        """Fetch what the device has reported up to `self.step`, and write a row if one is due."""
        meter.fetch()
        due = self.step % self.config.train.log_every_steps == 0 or self.step == self.total
        if meter.losses and due:
            display.row(self.step, meter, feed.waiting.percent())

    def _not_finite(self, bad: NotFinite, state: TrainState | None, feed: Feed) -> UserError:
        """Record what has become NaN or infinite, in the validation of `state` or in a step; the error that tells it.

        Nothing of that state was saved, nor will be.
        """
        recorder = Recorder(
            self.workdir, self.config, self.recipe, self.mesh, self.store, self.split.rows['train'], self.epoch_steps
        )
        try:
            if state is not None:
                record = recorder.validation(bad, state)
            else:
                bad, state = go_back(bad, lambda: self._start(feed), feed, self.step_fn, self.stop)
                record = recorder.training(bad, state, feed)
        except jax.errors.JaxRuntimeError as error:  # such as no memory to look at the step
            record = f'no flight record could be made ({str(error).splitlines()[0]})'
        return UserError(
            f'{self.workdir}: {bad}; this state is not saved; lower optim.learning_rate or look for volumes with '
            f'extreme values, and use a new --workdir; {record}'
        )

    def _start(self, feed: Feed) -> tuple[int, TrainState]:
        """Stand at the newest checkpoint again, or at the beginning."""
        self.checkpoints.wait()
        self.step, self.progress = 0, self.fresh
        self.checkpoints.newest(self._continue)
        state = self._initial_state()
        feed.set_state(self.progress.position)
        return self.step, state

    def _warn_of_waiting(self, feed: Feed) -> None:
        """At the end of an epoch; what follows is counted anew."""
        feed.waiting.restart()
        if warning := feed.waiting.warning():
            log.warning('%s', warning)
