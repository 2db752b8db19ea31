"""The run folder remembers the config it was made with, so that nobody continues it with another by mistake."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from liver_jax.config import Config, config_differences, config_from, config_to_json
from liver_jax.errors import UserError
from liver_jax.files import write_atomically

# These change where or how fast, not what: a run may go on with other values. (A split names its store by content,
# and more seeds leave the pairs of networks that are there as they are.)
_FREE = (
    'data.raw', 'data.images:', 'data.labels', 'data.store', 'data.workers', 'data.memory_gb', 'data.case_seconds',
    'data.placement', 'model.remat', 'train.log_every_steps', 'train.save_every_steps',
    'train.max_hours', 'eval.batch_size', 'compare.seeds:',
)  # fmt: skip


def open_run(workdir: Path, config: Config) -> None:
    """Make the run folder, or check that it was made with this config.

    Raises:
        UserError: it was made with another config (the fields are named), or cannot be written.
    """
    file = workdir / 'config.json'
    if file.exists():
        _refuse(workdir, config_differences(dataclasses.asdict(read_run_config(workdir)), config))
        if config_to_json(config) == file.read_text():
            return
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        write_atomically(file, config_to_json(config))
    except OSError as error:
        raise UserError(f'{workdir}: cannot write there ({error.strerror}); expected a writable --workdir') from error


def read_run_config(workdir: Path) -> Config:
    """The config of a run folder; raises UserError when there is none."""
    file = workdir / 'config.json'
    try:
        return config_from(json.loads(file.read_text()))
    except FileNotFoundError as error:
        raise UserError(f'{workdir}: no config.json there; expected a folder made by `liver-jax train`') from error
    except (OSError, ValueError) as error:
        raise UserError(f'{file}: cannot be read ({error}); expected the JSON that `liver-jax train` wrote') from error
    except UserError as error:
        raise UserError(f'{file}: {error}; it was changed, or made by another version') from error


def pair_folder(workdir: Path, seed: int | None, fold: int | None) -> Path:
    """Where a comparison keeps the pair of a seed and fold: `fold-K/seed-N`, of None without that level."""
    levels = [f'{name}-{number}' for name, number in (('fold', fold), ('seed', seed)) if number is not None]
    return workdir.joinpath(*levels)


def check_trained_with(workdir: Path, saved: Mapping[str, Any], config: Config) -> None:
    """Raise UserError where a checkpoint has another config than its run, whose config.json was changed then."""
    _refuse(workdir, config_differences(saved, config))


def _refuse(workdir: Path, differences: list[str]) -> None:
    differences = [line for line in differences if not line.startswith(_FREE)]
    if differences:
        raise UserError(
            f'{workdir}: made with another config ({"; ".join(differences)}); '
            'expected the same one, use another --workdir or put the fields back'
        )


def write_json(path: Path, values: Any) -> None:
    """Write strict JSON atomically; NaN and infinities become null."""
    write_atomically(path, json_text(values) + '\n')


def json_text(values: Any) -> str:
    """Strict JSON; NaN and infinities become null."""
    return json.dumps(_finite(values), indent=1, allow_nan=False)


def _finite(values: Any) -> Any:
    if isinstance(values, dict):
        return {key: _finite(value) for key, value in values.items()}
    if isinstance(values, (list, tuple)):
        return [_finite(value) for value in values]
    return None if isinstance(values, float) and values - values != 0 else values
