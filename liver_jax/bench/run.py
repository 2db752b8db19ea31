"""`liver-jax bench [ROW]`: row after row, each shown and written when it is done; one may fail, the rest go on."""

import dataclasses
import logging
import os
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax

from liver_jax.bench.data import bench_data, data_text
from liver_jax.bench.evaluate import bench_eval, eval_text
from liver_jax.bench.machine import machine, machine_text
from liver_jax.bench.plan import Plan, make_plan
from liver_jax.bench.predict import bench_predict, predict_text
from liver_jax.bench.scaling import bench_scaling, scaling_text
from liver_jax.bench.start import bench_start, start_text
from liver_jax.bench.step import bench_step, first_line, step_text
from liver_jax.bench.synthetic import SOURCE, synthetic_store
from liver_jax.bench.train import bench_train, train_text
from liver_jax.config import Config
from liver_jax.data.prepare import prepare
from liver_jax.errors import UserError
from liver_jax.runtime.run_folder import write_json

log = logging.getLogger(__name__)
ROWS: dict[str, tuple[Callable[[Plan], dict[str, Any]], Callable[[dict[str, Any]], str]]] = {
    'step': (bench_step, step_text),
    'data': (bench_data, data_text),
    'train': (bench_train, train_text),
    'eval': (bench_eval, eval_text),
    'predict': (bench_predict, predict_text),
    'start': (bench_start, start_text),
    'scaling': (bench_scaling, scaling_text),
}
SLICES = 7190  # where there is no store: as many as LiTS has with tumour
PEERS = ('torch', 'monai')


def bench(
    config: Config, row: str, peers: bool, command: str, show: Callable[[str], None], file: Path | None
) -> dict[str, Any]:
    """Measure one row, or 'all'; the results as plain data, which `file` gets after every row.

    The store is that of the config, else one prepared of its `data.raw`, else one of synthetic CT.

    Raises:
        UserError: a peer is not installed or cannot do what the config asks for; a row failed (the others are done, and
            written).
    """
    if 'XLA_PYTHON_CLIENT_MEM_FRACTION' not in os.environ:  # of a GPU; the rest is for peers, and processes of ours
        os.environ.setdefault('XLA_CLIENT_MEM_FRACTION', '0.5' if peers else '0.7')
    if peers:
        _check_peers(config)
    plan, rows = make_plan(config, jax.default_backend(), peers, row != 'all'), list(ROWS) if row == 'all' else [row]
    results: dict[str, Any] = {
        'command': command,
        'date': datetime.now(UTC).isoformat(timespec='seconds'),
        'machine': machine(),
        'load_at_start': _load(),
        'rows': {},
        'failed': {},
    }
    with tempfile.TemporaryDirectory() as folder:
        plan = dataclasses.replace(plan, config=_with_store(config, Path(folder)))
        results['store'] = config.data.store if Path(config.data.store).exists() else config.data.raw or SOURCE
        show(f'{machine_text(results["machine"])}\n{results["date"]}, load {results["load_at_start"]}: {command}')
        for name in rows:
            _add_row(results, name, plan, show)
            if file:
                write_json(file, results)
    if results['failed']:
        failed = '; '.join(f'{name}: {why}' for name, why in results['failed'].items())
        raise UserError(f'bench: {len(results["failed"])} of {len(rows)} rows failed ({failed})')
    return results


def _add_row(results: dict[str, Any], name: str, plan: Plan, show: Callable[[str], None]) -> None:
    measure, text = ROWS[name]
    started = time.monotonic()
    try:
        row = measure(plan)
    except UserError as error:
        log.error('bench %s: %s', name, error)
        results['failed'][name] = first_line(error)
        return
    except Exception as error:  # such as no memory: the other rows shall not wait for another day
        log.exception('bench %s failed', name)
        results['failed'][name] = first_line(error)
        return
    row |= {'seconds': time.monotonic() - started, 'load_at_end': _load()}
    results['rows'][name] = row
    show(f'\n## {name}\n\n{text(row)}\n({row["seconds"]:.0f} s, load {row["load_at_end"]})')


def _check_peers(config: Config) -> None:
    missing = [name for name in PEERS if find_spec(name) is None]
    if missing:
        raise UserError(
            f"--peers: {' and '.join(missing)} not installed; pip install -e '.[bench]', or leave --peers out"
        )
    from liver_jax.bench.peers.torch_step import check_peers

    check_peers(config)


def _with_store(config: Config, folder: Path) -> Config:
    """The config with a store that is there."""
    if Path(config.data.store).exists():
        return config
    data = dataclasses.replace(config.data, store=str(folder / 'store'))
    if data.raw:
        prepare(data)
    else:
        log.info('no store at %s and no data.raw; measuring on synthetic CT', config.data.store)
        synthetic_store(folder, SLICES, data)
    return dataclasses.replace(config, data=data)


def _load() -> float | None:
    """Processes that want a core, as a mean over a minute; None where that is not known."""
    return round(os.getloadavg()[0], 1) if hasattr(os, 'getloadavg') else None
