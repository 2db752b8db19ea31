"""What is used of orbax, in one place: its manager, what it writes and reads, and its barrier between processes."""

import functools
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orbax.checkpoint as ocp
import tensorstore
from orbax.checkpoint import checkpoint_managers

_OPENED = itertools.count()  # orbax wants names of its own for every manager


def open_manager(folder: Path, keep: 'NewestAndBest', read_only: bool, own: int) -> 'Manager':
    """The manager of `folder`, which is there, for process `own` alone: orbax would have processes wait for each other,
    for many minutes where one of them cannot write.
    """
    if not read_only:
        pass_over_broken_off_saves()
    of = ocp.options.MultiprocessingOptions(own, {own}, f'alone-{next(_OPENED)}')
    options = ocp.CheckpointManagerOptions(
        preservation_policy=keep, create=False, read_only=read_only, multiprocessing_options=of
    )
    return Manager(folder, options=options)


def save(manager: 'Manager', step: int, arrays: dict[str, Any], values: dict[str, dict[str, Any]]) -> None:
    """Save trees of `arrays` and JSON `values`, by the name of their item, in the background.

    Raises:
        Exception: whatever orbax met in this save, or the one before.
    """
    items = {name: ocp.args.StandardSave(tree) for name, tree in arrays.items()}
    manager.save(
        step, args=ocp.args.Composite(**items, **{name: ocp.args.JsonSave(each) for name, each in values.items()})
    )


def read_values(manager: 'Manager', step: int, item: str) -> dict[str, Any]:
    """An item of JSON; raises whatever orbax met (Exception)."""
    return dict(manager.restore(step, args=ocp.args.Composite(**{item: ocp.args.JsonRestore()}))[item])


def wait_for_all(name: str, seconds: int) -> None:
    """A barrier of this name; raises whatever JAX raises when a process does not come in time."""
    ocp.multihost.get_barrier_sync_fn()(key=f'liver_jax/{name}', timeout_ms=1000 * seconds)


class NewestAndBest(checkpoint_managers.PreservationPolicy):
    """Keeps the newest two checkpoints and the best as of each. (orbax's own best_fn may delete the newest.)"""

    def __init__(self) -> None:
        self.best: dict[int, int | None] = {}  # by step: the best one there was

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """Which of the checkpoints stay."""
        newest = sorted(info.step for info in checkpoints)[-2:]
        kept = {*newest, *(self.best.get(step) for step in newest)}
        return [info.step in kept for info in checkpoints]


def read_arrays(item: Path) -> dict[str, np.ndarray]:
    """All arrays of an item of a checkpoint by their names, such as `params.Conv_0.kernel`, as a whole.

    By tensorstore, as orbax does it; but orbax, where one array is damaged, leaves the reads of the others behind, and
    they print pages of tracebacks from threads of their own whenever they end.

    Raises:
        Exception: there is none (ValueError), or whatever tensorstore met.
    """
    folder = {'driver': 'ocdbt', 'base': f'file://{item}/'}
    keys = [key.decode() for key in tensorstore.KvStore.open(folder).result().list().result()]
    names = [key.removesuffix('/.zarray') for key in keys if key.endswith('/.zarray')]
    if not names:
        raise ValueError(f'{item}: no arrays there')
    opened = [tensorstore.open({'driver': 'zarr', 'kvstore': {**folder, 'path': f'{name}/'}}) for name in names]
    under_way = [each.result().read() for each in opened]
    return {name: np.asarray(each.result()) for name, each in zip(names, under_way, strict=True)}


@functools.cache
def pass_over_broken_off_saves() -> None:
    """Have Python say nothing of writes that orbax left behind when another failed, on a full disk: it would complain
    of each on stderr, pages long and whenever they end, of what `Checkpoints` tells in a line.
    """
    told = sys.unraisablehook

    def tell(unraisable: Any) -> None:
        code = getattr(unraisable.object, 'cr_code', None)
        of_orbax = code is not None and 'orbax' in Path(code.co_filename).parts
        after_its_loop = unraisable.object is None and str(unraisable.exc_value) == 'Event loop is closed'
        if not (of_orbax or after_its_loop):
            told(unraisable)

    sys.unraisablehook = tell


class Manager(ocp.CheckpointManager):
    """Orbax's, but that it asks nobody about pre-emption.

    It would ask JAX, which counts who asks, with the number of the step; `distributed.agreed` asks with the number of
    safe points, and a stop agreed on in one count is not met in the other.
    """

    def reached_preemption(self, step: int) -> bool:
        """Never: the loop decides when to stop and to save."""
        return False
