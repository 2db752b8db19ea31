"""Checkpoints: latest and best, written atomically in the background; the one importer of orbax.

A checkpoint has three items, so that scoring reads no more than it needs: `model` (parameters and batch statistics
to score with), `optimizer` (all else that training goes on from), and `progress` (JSON: stream position, early
stopping, best step, digest of the split).
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from liver_jax.errors import UserError

log = logging.getLogger(__name__)
Tree = Any


class Checkpoints:
    """The checkpoints of one run, in `folder`. Use as a context manager: leaving waits for the last save."""

    def __init__(self, folder: Path) -> None:
        """Open or create the folder."""
        self._folder = folder.absolute()
        self._keep = _LatestAndBest()
        self._manager = ocp.CheckpointManager(
            self._folder, options=ocp.CheckpointManagerOptions(preservation_policy=self._keep, create=True)
        )

    def __enter__(self) -> 'Checkpoints':
        """Nothing to do: it is open."""
        return self

    def __exit__(self, *_: object) -> None:
        """Wait for the save under way and close."""
        self._manager.wait_until_finished()
        self._manager.close()

    def save(self, step: int, model: Tree, optimizer: Tree, progress: dict[str, Any]) -> None:
        """Save in the background; then only this one and `progress['best_step']` are kept."""
        if step in self._manager.all_steps():
            return
        self._manager.check_for_errors()
        self._keep.best = progress['best_step']
        self._manager.save(
            step,
            args=ocp.args.Composite(
                model=ocp.args.StandardSave(model),
                optimizer=ocp.args.StandardSave(optimizer),
                progress=ocp.args.JsonSave(progress),
            ),
        )

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

    def restore(self, step: int, model: Tree, optimizer: Tree) -> tuple[Tree, Tree, dict[str, Any]]:
        """Model and optimizer as the abstract trees given, and progress."""
        restored = self._restore(
            step,
            model=ocp.args.StandardRestore(model),
            optimizer=ocp.args.StandardRestore(optimizer),
            progress=ocp.args.JsonRestore(),
        )
        return restored['model'], restored['optimizer'], restored['progress']

    def progress(self, step: int) -> dict[str, Any]:
        """Only the progress of a checkpoint."""
        return dict(self._restore(step, progress=ocp.args.JsonRestore())['progress'])

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
        try:
            return self._manager.restore(step, args=ocp.args.Composite(**items))
        except (OSError, ValueError, KeyError) as error:
            others = ', '.join(str(each) for each in self._manager.all_steps() if each != step) or 'none'
            raise UserError(
                f'{self._folder / str(step)}: a damaged checkpoint ({type(error).__name__}); '
                f'move it away to use the others (steps: {others}), or use a new --workdir'
            ) from error


def abstract(tree: Tree, sharding: jax.sharding.Sharding) -> Tree:
    """Shapes and dtypes of a tree with one sharding for all its leaves."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


def _shapes(tree: Tree) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda leaf: hasattr(leaf, 'shape'))
    return {jax.tree_util.keystr(path, simple=True, separator='.'): tuple(leaf.shape) for path, leaf in leaves}


class _LatestAndBest(checkpoint_managers.PreservationPolicy):
    """Keeps the newest checkpoint and the one at step `best`. (orbax's own best_fn may delete the newest.)"""

    best: int | None = None

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """Which of the checkpoints stay."""
        newest = max(info.step for info in checkpoints)
        return [info.step in (newest, self.best) for info in checkpoints]
