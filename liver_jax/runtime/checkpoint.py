"""Checkpoints: the newest two and the best, written atomically in the background, by orbax.

A checkpoint has four items, so that scoring reads no more than it needs: `model` (parameters and batch statistics
to score with), `optimizer` (all else that training goes on from), and as JSON `progress` (stream position, early
stopping, best step, digest of the split) and `about` (the config, the environment, checksums of the arrays).
"""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import jax
import numpy as np

from liver_jax.errors import UserError
from liver_jax.files import write_atomically
from liver_jax.runtime.checksums import checksum, sealed
from liver_jax.runtime.distributed import first_before_others, in_all, is_first, place
from liver_jax.runtime.mesh import put_whole
from liver_jax.runtime.orbax_manager import Manager, NewestAndBest, open_manager, read_arrays, read_values, save

log = logging.getLogger(__name__)
_DISK_FAULTS = ('No space left on device', 'Disk quota exceeded', 'Read-only file system', 'Input/output error')
Tree = Any
Result = TypeVar('Result')


class Damaged(UserError):  # noqa: N818 (what the checkpoint is)
    """A checkpoint that cannot be read, or is not what was saved: `reason` says which."""

    def __init__(self, message: str, reason: str) -> None:
        """`message` is for the user."""
        super().__init__(message)
        self.reason = reason


class Checkpoints:
    """The checkpoints of one run, in `folder`. Use as a context manager: leaving waits for the last save."""

    def __init__(self, folder: Path, read_only: bool = False) -> None:
        """Open the folder, or create it; all processes of a job together, of which the first writes and all read.
        `read_only` is for one process, any one.
        """
        self._folder, self._read_only = folder.absolute(), read_only
        self._keep, self._failure = NewestAndBest(), cast(Exception | None, None)
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
        if not is_first():
            return
        if step in self._manager.all_steps():
            write_atomically(self._folder / str(step) / 'progress' / 'metadata', json.dumps(sealed(progress)))
            return
        self._clear_torn()
        self._keep.best[step] = progress['best_step']
        # Copies on the host: the next step takes the devices' memory, and orbax cuts arrays of n devices into n parts.
        arrays = jax.tree.map(np.array, jax.device_get({'model': model, 'optimizer': optimizer}))
        sums = {name: checksum(tree) for name, tree in arrays.items()}
        values = {'progress': sealed(progress), 'about': sealed({**(about or {}), 'checksums': sums})}
        try:
            save(self._manager, step, arrays, values)
        except Exception as error:  # whatever orbax makes of a full disk
            self._failure = error

    def wait(self) -> bool:
        """Wait for the save under way; whether it is whole. One that failed is told of and cleared away."""
        if self._read_only:
            return True
        try:
            self._manager.wait_until_finished()
            self._manager.check_for_errors()
        except Exception as error:  # whatever orbax makes of a full disk
            self._failure = self._failure or error
        whole = in_all(self._failure is None)
        if not whole:
            self._give_up()
        elif not is_first():
            self.reload()
        return whole

    def reload(self) -> None:
        """Look at the folder again, which another process writes."""
        self._manager.reload()

    def steps(self) -> list[int]:
        """Steps of all whole checkpoints, the newest last."""
        return sorted(self._manager.all_steps())

    def newest(self, read: Callable[[int], Result]) -> Result | None:
        """What `read` gives for the step of the newest checkpoint that it can read; None where there is none.

        Damaged ones are put aside and told of, unless there is no whole one.

        Raises:
            UserError: there are checkpoints, or were, all of them damaged.
        """
        damaged: dict[int, str] = {}
        for step in reversed(self.steps()):
            try:
                found = read(step)
            except Damaged as error:
                damaged[step] = error.reason
                continue
            for bad, reason in damaged.items():
                aside = self._put_aside(bad)
                log.warning('checkpoint %d is damaged (%s); moved to %s, going on from %d', bad, reason, aside, step)
            return found
        told = [f'{step}: {reason}' for step, reason in damaged.items()]
        if told := [*told, *sorted(path.name for path in self._folder.glob('damaged-*'))]:
            raise UserError(
                f'{self._folder}: every checkpoint is damaged ({", ".join(told)}); expected a whole one, put back a '
                'copy or use a new --workdir'
            )
        return None

    def warn_of_damaged_best(self, like: Tree) -> None:
        """Read the best checkpoint as the abstract tree `like`, and tell if that fails: training does not need it."""
        best = self.best_step()
        if best is None or best == self.latest_step():
            return
        try:
            self.restore_model(best, like)
            self.progress(best)
        except Damaged as error:
            log.warning(
                'checkpoint %d, the best, is damaged (%s); training goes on, but until it finds a better one, scores '
                'need --checkpoint=latest',
                best,
                error.reason,
            )

    def latest_step(self) -> int | None:
        """Step of the newest checkpoint."""
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
        return self._restore(step, 'model', like)

    def restore(self, step: int, model: Tree, optimizer: Tree) -> tuple[Tree, Tree]:
        """Model and optimizer as the abstract trees given.

        Raises:
            Damaged: it cannot be read, or is not what was saved.
            UserError: it is of another network.
        """
        return self._restore(step, 'model', model), self._restore(step, 'optimizer', optimizer)

    def progress(self, step: int) -> dict[str, Any]:
        """Only the progress of a checkpoint."""
        progress = self._json(step, 'progress')
        self._keep.best[step] = progress['best_step']
        return progress

    def about(self, step: int) -> dict[str, Any]:
        """Only what was said about a checkpoint: 'checksums', and what else it was saved with."""
        return self._json(step, 'about')

    def _open(self) -> Manager:
        if self._read_only:
            return open_manager(self._folder, self._keep, True, place()[0])
        with first_before_others():
            self._clear_torn()
            if is_first():
                self._folder.mkdir(parents=True, exist_ok=True)
            return open_manager(self._folder, self._keep, not is_first(), place()[0])

    def _clear_torn(self) -> None:
        """Remove checkpoints of a run that was killed, or of a save that failed, for they take room. What was under way
        of such a save may appear after it was given up.
        """
        if not self._read_only and is_first():
            for torn in self._folder.glob('*.orbax-checkpoint-tmp*'):
                shutil.rmtree(torn, ignore_errors=True)

    def _give_up(self) -> None:
        """Tell of a save that failed, clear it away, and start over: orbax would repeat the error for ever."""
        failure, self._failure = self._failure, None
        reason = next((words for words in _DISK_FAULTS if words in str(failure)), type(failure).__name__)
        log.warning('%s: a checkpoint could not be saved (%s); going on without it', self._folder, reason)
        self._manager = self._open()

    def _put_aside(self, step: int) -> str:
        aside = self._folder / f'damaged-{step}'
        with first_before_others():
            if is_first():
                shutil.rmtree(aside, ignore_errors=True)
                (self._folder / str(step)).rename(aside)
        self._manager.reload()
        return aside.name

    def _restore(self, step: int, item: str, like: Tree) -> Tree:
        """Arrays, checked against their checksum: a flipped bit may be read without complaint."""
        expected = self.about(step)['checksums'][item]
        try:
            arrays = read_arrays(self._folder / str(step) / item)
        except Exception as error:  # tensorstore too
            raise self._damaged(step, f'{item} cannot be read') from error
        self._check_network(step, item, arrays, like)
        if checksum(arrays) != expected:
            raise self._damaged(step, f'{item} is not what was saved')
        return jax.tree_util.tree_map_with_path(lambda path, x: put_whole(arrays[_name(path)], x.sharding), like)

    def _check_network(self, step: int, item: str, arrays: dict[str, np.ndarray], like: Tree) -> None:
        found = {name: array.shape for name, array in arrays.items()}
        expected = {_name(path): tuple(leaf.shape) for path, leaf in jax.tree_util.tree_leaves_with_path(like)}
        names = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
        if names:
            raise UserError(
                f'{self._folder / str(step) / item}: of another network than the config of the run says ({len(names)} '
                f'arrays differ, such as {names[0]}: {found.get(names[0], "missing")} instead of '
                f'{expected.get(names[0], "none")}); expected the config.json that it was trained with, put that back'
            )

    def _json(self, step: int, item: str) -> dict[str, Any]:
        try:
            values = read_values(self._manager, step, item)
        except Exception as error:  # orbax raises whatever its threads met
            raise self._damaged(step, f'{item} cannot be read') from error
        seal = values.pop('crc32', None)
        if sealed(values)['crc32'] != seal:
            raise self._damaged(step, f'{item} is not what was saved')
        return values

    def _damaged(self, step: int, reason: str) -> Damaged:
        others = ', '.join(str(each) for each in self.steps() if each != step) or 'none'
        return Damaged(
            f'{self._folder / str(step)}: a damaged checkpoint ({reason}); expected a whole one, name another with '
            f'--checkpoint (steps: {others})',
            reason,
        )


def abstract(tree: Tree, sharding: jax.sharding.Sharding) -> Tree:
    """Shapes and dtypes of a tree with one sharding for all its leaves."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


def _name(path: tuple[Any, ...]) -> str:
    """The name that orbax gives to a leaf of a tree."""
    return jax.tree_util.keystr(path, simple=True, separator='.')
