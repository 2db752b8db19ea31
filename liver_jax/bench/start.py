"""`liver-jax bench start`: from the command to the first step, in processes of their own."""

import dataclasses
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import jax

from liver_jax.bench.plan import Plan, case_name
from liver_jax.bench.runs import command, environment, write_config
from liver_jax.bench.synthetic import synthetic_store
from liver_jax.bench.table import figures, markdown
from liver_jax.config import Config

ROUNDS = 3
BATCH_SIZE = 8
DEMO_DEPTH, DEMO_SIDE = 3, 64  # of configs/quickstart.py, the networks that one starts on a CPU
LOOK_SECONDS, PATIENCE_SECONDS = 0.01, 600.0  # between looks for the first step, and in all


def bench_start(plan: Plan) -> dict[str, Any]:
    """`liver-jax train` with an empty compile cache, then with what that left; and `liver-jax --help`."""
    case = dataclasses.replace(plan.cases[0], batch_size=BATCH_SIZE)
    with tempfile.TemporaryDirectory() as folder:
        config = _quickly_logged(plan.case_config(case))
        if jax.default_backend() == 'cpu':
            config = _as_the_demo(config, Path(folder))
        write_config(config, Path(folder) / 'config.py')
        seconds = [_first_step(Path(folder), number) for number in range(1 + ROUNDS)]
    return {
        'network': case_name(case),
        'depth': config.model.depth,
        'image_size': config.data.image_size,
        'cold_seconds': seconds[0],
        'warm_seconds': seconds[1:],
        'help_seconds': [_help() for _ in range(ROUNDS)],
    }


def start_text(results: dict[str, Any]) -> str:
    """The table."""
    rows = [
        ['first step, nothing compiled yet', figures(results['cold_seconds']), ''],
        ['first step, compiled before', *_cells(results['warm_seconds'])],
        ['`liver-jax --help`', *_cells(results['help_seconds'])],
    ]
    side = results['image_size']
    about = f'{results["network"]}, depth {results["depth"]}, {side}×{side}.'
    return markdown(['seconds from the command to …', 'median', 'lowest'], rows) + f'\n\n{about}'


def _quickly_logged(config: Config) -> Config:
    return dataclasses.replace(config, train=dataclasses.replace(config.train, log_every_steps=1))


def _as_the_demo(config: Config, folder: Path) -> Config:
    """With the depth and the images of the demo, and a store of these."""
    data = dataclasses.replace(config.data, image_size=DEMO_SIDE, store=str(folder / 'store'), raw='')
    synthetic_store(folder, 200, data)
    return dataclasses.replace(config, data=data, model=dataclasses.replace(config.model, depth=DEMO_DEPTH))


def _first_step(folder: Path, number: int) -> float:
    """Seconds from the command to the first row of the log, which comes when the first step is done."""
    run, log = folder / f'run-{number}', folder / f'log-{number}'
    with log.open('w') as out:
        started = time.perf_counter()
        process = subprocess.Popen(
            command('train', f'--config={folder / "config.py"}', f'--workdir={run}'),
            stdout=out, stderr=out, env=environment(JAX_COMPILATION_CACHE_DIR=str(folder / 'cache')),
        )  # fmt: skip
        try:
            while not _has_row(run / 'metrics.jsonl'):
                if process.poll() is not None or time.perf_counter() - started > PATIENCE_SECONDS:
                    raise RuntimeError(f'train took no step: {log.read_text().strip()[-500:]}')
                time.sleep(LOOK_SECONDS)
            return time.perf_counter() - started
        finally:
            process.kill()
            process.wait()


def _has_row(log: Path) -> bool:
    return log.exists() and log.stat().st_size > 0


def _help() -> float:
    started = time.perf_counter()
    subprocess.run(command('--help'), env=environment(), check=True, capture_output=True)
    return time.perf_counter() - started


def _cells(seconds: list[float]) -> tuple[str, str]:
    return figures(statistics.median(seconds)), figures(min(seconds))
