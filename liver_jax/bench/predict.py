"""`liver-jax bench predict`: whole scans, from file to file."""

import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from liver_jax.bench.plan import Plan, case_name
from liver_jax.bench.runs import command, environment, quiet, train_for
from liver_jax.bench.table import figures, markdown
from liver_jax.data.layouts import Case
from liver_jax.data.phantom import make_phantoms
from liver_jax.data.scans import find_scans
from liver_jax.evaluation.predict import check_all_done, predict_cases
from liver_jax.evaluation.segment import Options, Setup, load_setup

ROUNDS = 3
SCANS = 3  # at most


def bench_predict(plan: Plan) -> dict[str, Any]:
    """Scans of the config's `data.raw`, or synthetic ones, by a network that was trained for two steps.

    Each scan by itself in a process that has loaded the network, and one of them as the command that a user types.
    """
    config = plan.case_config(plan.cases[0])
    with tempfile.TemporaryDirectory() as folder, quiet():
        here = Path(folder)
        raw = Path(config.data.raw) if config.data.raw else here / 'raw'
        if not config.data.raw:
            make_phantoms(raw, 2, seed=0)
        train_for(config, here / 'run', 2)
        cases = find_scans(raw)[0][:SCANS]
        setup = load_setup(here / 'run', 'latest', Options(), None)
        _predict(cases[0], here / 'warm-up', setup)
        turns = [
            [_predict(case, here / f'{number}-{turn}', setup) for number, case in enumerate(cases)]
            for turn in range(ROUNDS)
        ]
        first = cases[0].images[0] if cases[0].kind == 'nifti' else cases[0].images[0].parent
        flags = f'--workdir={here / "run"}', f'--input={first}', f'--output={here / "out"}'
        started = time.perf_counter()
        subprocess.run(
            command('predict', *flags, '--checkpoint=latest'), env=environment(), check=True, capture_output=True
        )
        whole = time.perf_counter() - started
    seconds, slices = np.array([[each[0] for each in turn] for turn in turns]), [each[1] for each in turns[0]]
    return {
        'network': case_name(plan.cases[0]),
        'slices': slices,
        'seconds': seconds.tolist(),
        'latency_seconds': float(np.median(seconds)),
        'volumes_per_second': float(1 / np.median(seconds.mean(axis=1))),
        'command_seconds': whole,
    }


def predict_text(results: dict[str, Any]) -> str:
    """The table."""
    rows = [
        ['one scan, network loaded', f'{figures(results["latency_seconds"])} s'],
        ['scans per second, one after the other', figures(results['volumes_per_second'])],
        ['the command `liver-jax predict` for one scan', f'{figures(results["command_seconds"])} s'],
    ]
    many = ', '.join(map(str, results['slices']))
    return markdown([results['network'], 'median'], rows) + f'\n\nScans of {many} slices, from file to file.'


def _predict(case: Case, output: Path, setup: Setup) -> tuple[float, int]:
    """Seconds, and slices of the scan."""
    started = time.perf_counter()
    manifest = predict_cases([case], [], output, setup)
    seconds = time.perf_counter() - started
    check_all_done(manifest, output)
    return seconds, manifest['cases'][0]['slices']
