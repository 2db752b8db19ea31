"""`liver-jax bench train`: the whole training loop on slices of the store, beside its step on batches at hand."""

import dataclasses
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from liver_jax.bench.plan import Plan, case_name
from liver_jax.bench.runs import train_for
from liver_jax.bench.step import OurStep, host_batches
from liver_jax.bench.table import figures, markdown, percent, rated
from liver_jax.bench.timing import rate, ratio
from liver_jax.config import Config
from liver_jax.data.store import SliceStore
from liver_jax.runtime.mesh import make_mesh
from liver_jax.runtime.telemetry import read_history

ROUNDS = 3
LOGGED = 6  # rows of the log that a turn of the loop has; the first is left out, for the stream begins there


def bench_train(plan: Plan) -> dict[str, Any]:
    """Step, loop, step, loop, …; each turn of the loop is a run of its own, with its log, for `plan.steps` steps.

    Its pace is that of the run's log: validation, saving and compiling are no part of it.
    """
    config = plan.case_config(plan.cases[0])
    every = max(1, plan.steps // LOGGED)
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, log_every_steps=every))
    step = OurStep(config, host_batches(SliceStore(Path(config.data.store)), config), make_mesh())
    step(2)
    stepping, looping, waited = [], [], []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        step(plan.steps)
        stepping.append((time.perf_counter() - started) / plan.steps)
        seconds, waiting = _loop(config, plan.steps)
        looping.append(seconds)
        waited.append(waiting)
    size = config.train.batch_size
    return {
        'network': case_name(plan.cases[0]),
        'steps': plan.steps,
        'placement': config.data.placement,
        'step': rate(stepping, size),
        'loop': rate(looping, size),
        'loop_to_step': ratio(looping, stepping),
        'waited_percent': waited,
    }


def train_text(results: dict[str, Any]) -> str:
    """The table."""
    waited = f'{np.median(results["waited_percent"]):.1f} %'
    rows = [
        ['the step, batches on the device', *rated(results['step']), '', ''],
        ['the loop', *rated(results['loop']), percent(results['loop_to_step']['median']), waited],
    ]
    lowest, highest = (figures(results['loop_to_step'][end]) for end in ('lowest', 'highest'))
    return (
        markdown([results['network'], 'slices/s', '±', 'of step', 'waited'], rows)
        + f'\n\n{results["steps"]} steps a turn; loop to step {lowest} to {highest}; waited: of the time, for data.'
    )


def _loop(config: Config, steps: int) -> tuple[float, float]:
    """Seconds of a step, and percent of the time waited for data, as the run's log has them."""
    with tempfile.TemporaryDirectory() as folder:
        train_for(config, Path(folder) / 'run', steps)
        rows = [row for row in read_history(Path(folder) / 'run') if 'pace/slices_per_second_per_device' in row][1:]
    paces = [row['pace/slices_per_second_per_device'] for row in rows]
    speed = float(np.median(paces)) * make_mesh().size
    return config.train.batch_size / speed, float(np.median([row['pace/data_wait_percent'] for row in rows]))
