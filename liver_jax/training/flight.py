"""The flight record: all that one step was computed from, as a folder that can be sent to a colleague.

record.json   what went wrong, the numbers of every layer, cases and slices, config (without paths), environment
batch.npz     the batch: uint8 'image' and 'mask' [B, H, W], 'draws' of its augmentation (none of a validation)
state.npz     the state before the step: parameters, batch statistics, optimizer, average
"""

import dataclasses
import json
import math
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from liver_jax.config import Config, config_from
from liver_jax.data.store import SliceStore
from liver_jax.errors import UserError

FORMAT = 1
Arrays = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Flight:
    """A record: `about` is its record.json, `state` has arrays by their place in the state, as 'params.logits.bias'."""

    about: dict[str, Any]
    batch: Arrays
    state: Arrays

    @property
    def config(self) -> Config:
        """What the run was trained with; its paths are left out."""
        return config_from(self.about['config'])


def write_flight(folder: Path, flight: Flight) -> int:
    """Write the record at once; it takes the place of an older one there. Returns its size in bytes."""
    unfinished = folder.with_name(folder.name + '.partial')
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    np.savez_compressed(unfinished / 'batch.npz', allow_pickle=False, **flight.batch)
    np.savez(unfinished / 'state.npz', allow_pickle=False, **flight.state)
    about = {'format': FORMAT, **flight.about}
    (unfinished / 'record.json').write_text(json.dumps(_spelt(about), indent=1, allow_nan=False) + '\n')
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)
    return sum(file.stat().st_size for file in folder.iterdir())


def read_flight(folder: Path) -> Flight:
    """Raises UserError where there is no whole record of this version."""
    if not (folder / 'record.json').is_file():
        raise UserError(f'{folder}: no record.json there; expected a folder such as runs/first/flight-120')
    try:
        about = json.loads((folder / 'record.json').read_text())
        if about['format'] == FORMAT:
            return Flight(about, _read_arrays(folder / 'batch.npz'), _read_arrays(folder / 'state.npz'))
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(
            f'{folder}: a damaged flight record ({type(error).__name__}: {error}); copy it again'
        ) from error
    raise UserError(
        f'{folder}: format {about["format"]!r}; expected {FORMAT}, replay it with the version that wrote it'
    )


def state_arrays(state: Any) -> dict[str, np.ndarray]:
    """The arrays of a state on the devices by their place in it."""
    leaves = jax.tree_util.tree_leaves_with_path(jax.device_get(state))
    return {_place(path): np.asarray(leaf) for path, leaf in leaves}


def fill_state(like: Any, arrays: Arrays) -> Any:
    """The state with the structure of `like` (shapes, dtypes); raises UserError where arrays do not fit it."""

    def take(path: Any, leaf: Any) -> np.ndarray:
        array = arrays.get(_place(path))
        if array is None or array.shape != leaf.shape:
            raise UserError(
                f'state.npz: {_place(path)} is {"missing" if array is None else array.shape}; expected {leaf.shape}; '
                'the record is of another version, replay it with the one that wrote it'
            )
        return array.view(leaf.dtype) if array.dtype.kind == 'V' else array  # numpy has no name for bfloat16

    return jax.tree_util.tree_map_with_path(take, like)


def config_without_paths(config: Config) -> dict[str, Any]:
    """As plain data; paths and patterns can hold names of people, and a replay needs none of them."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    plain['data'] |= {'raw': '', 'images': '', 'labels': '', 'patients': '', 'store': 'left-out'}
    return plain


def name_slices(store: SliceStore, rows: np.ndarray) -> list[dict[str, Any]]:
    """Case and index (from the feet) of rows of a store."""
    return [{'case': store.rows[row].case, 'slice': store.rows[row].index} for row in rows]


def _read_arrays(path: Path) -> Arrays:
    with open(path, 'rb') as file, np.load(file) as arrays:  # numpy leaves a file open that is no archive
        return dict(arrays)


def _place(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator='.')


def _spelt(values: Any) -> Any:
    """Plain data for strict JSON: NaN and infinities become the words 'nan', 'inf' and '-inf'."""
    if isinstance(values, Mapping):
        return {key: _spelt(value) for key, value in values.items()}
    if isinstance(values, (list, tuple)):
        return [_spelt(value) for value in values]
    if isinstance(values, float) and not math.isfinite(values):
        return str(values)
    return values
