"""Checkpoints: the newest two and the best, written atomically in the background; the one importer of orbax.

A checkpoint has four items, so that scoring reads no more than it needs: `model` (parameters and batch statistics
to score with), `optimizer` (all else that training goes on from), and as JSON `progress` (stream position, early
stopping, best step, digest of the split) and `about` (the config, the environment, checksums of the arrays).
"""

import functools
import itertools
import json
import logging
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from liver_jax.errors import UserError
from liver_jax.files import write_atomically
from liver_jax.runtime.checksums import checksum, sealed
from liver_jax.runtime.distributed import first_before_others, in_all, is_first, place

log = logging.getLogger(__name__)
_DISK_FAULTS = ('No space left on device', 'Disk quota exceeded', 'Read-only file system', 'Input/output error')
_OPENED = itertools.count()  # orbax wants names of its own for every manager
Tree = Any
Result = TypeVar('Result')


class Damaged(UserError):  # noqa: N818 (what the checkpoint is)
    """A checkpoint that cannot be read, or is not what was saved."""


class Checkpoints:
    """The checkpoints of one run, in `folder`. Use as a context manager: leaving waits for the last save."""

    def __init__(self, folder: Path, read_only: bool = False) -> None:
        """Open the folder, or create it; all processes of a job together. `read_only` is for one process, any one."""
        self._folder, self._read_only = folder.absolute(), read_only
        self._keep = _NewestAndBest()
        self._manager = self._open()

    def __enter__(self) -> 'Checkpoints':
        """Nothing to do: it is open."""
        return self

    def __exit__(self, *_: object) -> None:
        """Wait for the save under way and close."""
        self.wait()
        self._manager.close()

    def save(
        self, step: int, model: Tree, optimizer: Tree, progress: dict[str, Any], about: dict[str, Any] | None = None
    ) -> None:
        """Save in the background; then this one, the one before and the best as of either are kept.

        Of a step that is there already only `progress` is written anew, for the state is the same. A save that fails
        is told of when the next one or `wait` finds out; the checkpoints before it are still there.
        """
        self.wait()
        if step in self._manager.all_steps():
            if is_first():
                write_atomically(self._folder / str(step) / 'progress' / 'metadata', json.dumps(sealed(progress)))
            return
        self._keep.best[step] = progress['best_step']
        # Copies on the host: the next step takes the devices' memory, and orbax cuts arrays of n devices into n parts.
        model, optimizer = jax.tree.map(np.array, jax.device_get((model, optimizer)))
        sums = {'model': checksum(model), 'optimizer': checksum(optimizer)}
        items = ocp.args.Composite(
            model=ocp.args.StandardSave(model),
            optimizer=ocp.args.StandardSave(optimizer),
            progress=ocp.args.JsonSave(sealed(progress)),
            about=ocp.args.JsonSave(sealed({**(about or {}), 'checksums': sums})),
        )
        try:
            self._manager.save(step, args=items)
        except Exception as error:  # whatever orbax makes of a full disk
            self._give_up(error)

    def wait(self) -> bool:
        """Wait for the save under way; whether it is whole. One that failed is told of and cleared away."""
        failure = Exception('in another process')
        try:
            self._manager.wait_until_finished()
            self._manager.check_for_errors()
            whole = True
        except Exception as error:  # whatever orbax makes of a full disk
            whole, failure = False, error
        if self._read_only or in_all(whole):
            return True
        self._give_up(failure)
        return False

    def reload(self) -> None:
        """Look at the folder again, which another process writes."""
        self._manager.reload()

    def steps(self) -> list[int]:
        """Steps of all whole checkpoints, the newest last."""
        return sorted(self._manager.all_steps())

    def newest(self, read: Callable[[int], Result]) -> Result | None:
        """What `read` gives for the step of the newest checkpoint that it can read; None where there is none.

        Damaged ones are put aside and told of.

        Raises:
            UserError: there are checkpoints, all of them damaged.
        """
        steps = self.steps()
        for step in reversed(steps):
            try:
                return read(step)
            except Damaged as error:
                aside = self._put_aside(step)
                log.warning('%s; going back to the one before, this one is now %s', error, aside)
        if steps:
            raise UserError(f'{self._folder}: every checkpoint is damaged; expected a whole one, use a new --workdir')
        return None

    def latest_step(self) -> int | None:
        """Step of the newest whole checkpoint."""
        return self._manager.latest_step()

    def best_step(self) -> int | None:
        """Step of the checkpoint with the best validation score; the latest where none has one."""
        latest = self.latest_step()
        best: int | None = None if latest is None else self.progress(latest)['best_step']
        if best is None and latest is not None:
            log.warning('%s: no checkpoint has a validation score; taking the latest', self._folder)
        return latest if best is None else best

    def find(self, which: str) -> int:
        """The step that 'best', 'latest' or a number means; raises UserError when it isn't there."""
        steps = sorted(self._manager.all_steps())
        if not steps:
            raise UserError(f'{self._folder}: no checkpoint there yet; expected a run that finished its first epoch')
        named = {'best': self.best_step, 'latest': self.latest_step}
        step = named[which]() if which in named else int(which) if which.isdecimal() else None
        if step is None or step not in steps:
            known = ', '.join(map(str, steps))
            raise UserError(f'--checkpoint={which}: not in {self._folder}; expected best, latest or a step of {known}')
        return step

    def restore_model(self, step: int, like: Tree) -> Tree:
        """Parameters and batch statistics as the abstract tree `like` (shapes, dtypes, shardings).

        Raises:
            UserError: a damaged checkpoint, or one of another network.
        """
        self._check_network(step, like)
        return self._restore(step, model=ocp.args.StandardRestore(like))['model']

    def restore(self, step: int, model: Tree, optimizer: Tree) -> tuple[Tree, Tree]:
        """Model and optimizer as the abstract trees given.

        Raises:
            Damaged: it cannot be read, or is not what was saved.
            UserError: it is of another network.
        """
        self._check_network(step, model)
        restored = self._restore(
            step, model=ocp.args.StandardRestore(model), optimizer=ocp.args.StandardRestore(optimizer)
        )
        return restored['model'], restored['optimizer']

    def progress(self, step: int) -> dict[str, Any]:
        """Only the progress of a checkpoint."""
        progress = self._json(step, 'progress')
        self._keep.best[step] = progress['best_step']
        return progress

    def about(self, step: int) -> dict[str, Any]:
        """Only what was said about a checkpoint: 'checksums', and what else it was saved with."""
        return self._json(step, 'about')

    def _open(self) -> ocp.CheckpointManager:
        if not self._read_only and is_first():
            for torn in self._folder.glob('*.orbax-checkpoint-tmp*'):
                shutil.rmtree(torn, ignore_errors=True)  # of a run that was killed; it takes room
        own, of = place()[0], ocp.options.MultiprocessingOptions
        options = ocp.CheckpointManagerOptions(
            preservation_policy=self._keep,
            create=not self._read_only,
            read_only=self._read_only,
            multiprocessing_options=of(own, {own}, f'alone-{next(_OPENED)}') if self._read_only else of(),
        )
        return _Manager(self._folder, options=options)

    def _give_up(self, error: Exception) -> None:
        """Tell of a save that failed, clear it away, and start over: orbax would repeat the error for ever."""
        reason = next((words for words in _DISK_FAULTS if words in str(error)), type(error).__name__)
        log.warning('%s: a checkpoint could not be saved (%s); going on without it', self._folder, reason)
        self._manager = self._open()

    def _put_aside(self, step: int) -> Path:
        aside = self._folder / f'damaged-{step}'
        with first_before_others():
            if is_first():
                shutil.rmtree(aside, ignore_errors=True)
                (self._folder / str(step)).rename(aside)
        self._manager.reload()
        return aside

    def _check_network(self, step: int, like: Tree) -> None:
        """Compare shapes before orbax reads: it would fail in its threads, with pages of their own words."""
        folder = self._folder / str(step) / 'model'
        try:
            tree = ocp.StandardCheckpointHandler().metadata(folder).tree
        except (OSError, ValueError, KeyError, AttributeError):
            return  # damaged: reading it says so
        found = _shapes(tree)
        expected = _shapes(like)
        names = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
        if names:
            raise UserError(
                f'{folder}: of another network than the config of the run says ({len(names)} arrays differ, such as '
                f'{names[0]}: {found.get(names[0], "missing")} instead of {expected.get(names[0], "none")}); '
                'expected the config.json that it was trained with, put that back'
            )

    def _restore(self, step: int, **items: Any) -> Any:
        """Items of arrays, checked against their checksums: orbax reads a flipped bit without complaint."""
        restored = self._read(step, **items)
        expected = self.about(step)['checksums']
        for name in items:
            if checksum(restored[name]) != expected[name]:
                raise self._damaged(step, f'{name} is not what was saved')
        return restored

    def _read(self, step: int, **items: Any) -> Any:
        try:
            return self._manager.restore(step, args=ocp.args.Composite(**items))
        except Exception as error:  # orbax raises whatever its threads met
            reason = type(error).__name__
        _pass_over_reads_that_failed()
        raise self._damaged(step, reason)

    def _json(self, step: int, item: str) -> dict[str, Any]:
        values = dict(self._read(step, **{item: ocp.args.JsonRestore()})[item])
        seal = values.pop('crc32', None)
        if sealed(values)['crc32'] != seal:
            raise self._damaged(step, f'{item} is not what was saved')
        return values

    def _damaged(self, step: int, reason: str) -> Damaged:
        others = ', '.join(str(each) for each in self.steps() if each != step) or 'none'
        return Damaged(
            f'{self._folder / str(step)}: a damaged checkpoint ({reason}); '
            f'move it away to use the others (steps: {others}), or use a new --workdir'
        )


def abstract(tree: Tree, sharding: jax.sharding.Sharding) -> Tree:
    """Shapes and dtypes of a tree with one sharding for all its leaves."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


def _shapes(tree: Tree) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda leaf: hasattr(leaf, 'shape'))
    return {jax.tree_util.keystr(path, simple=True, separator='.'): tuple(leaf.shape) for path, leaf in leaves}


class _Manager(ocp.CheckpointManager):
    """Orbax's, but that it asks nobody about pre-emption.

    It would ask JAX, which counts who asks, with the number of the step; `distributed.agreed` asks with the number of
    safe points, and a stop agreed on in one count is not met in the other.
    """

    def reached_preemption(self, step: int) -> bool:
        """Never: the loop decides when to stop and to save."""
        return False


class _NewestAndBest(checkpoint_managers.PreservationPolicy):
    """Keeps the newest two checkpoints and the best as of each. (orbax's own best_fn may delete the newest.)"""

    def __init__(self) -> None:
        self.best: dict[int, int | None] = {}  # by step: the best one there was

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """Which of the checkpoints stay."""
        newest = sorted(info.step for info in checkpoints)[-2:]
        kept = {*newest, *(self.best.get(step) for step in newest)}
        return [info.step in kept for info in checkpoints]


@functools.cache
def _pass_over_reads_that_failed() -> None:
    """Orbax leaves coroutines of a failed read to the garbage collector, whenever tensorstore lets go of them; Python
    would complain of each on stderr, pages long, of what has been told already.
    """
    told = sys.unraisablehook

    def tell(unraisable: Any) -> None:
        code = getattr(unraisable.object, 'cr_code', None)
        if code is None or 'orbax' not in Path(code.co_filename).parts:
            told(unraisable)

    sys.unraisablehook = tell
