"""`liver-jax bench scaling`: one step on 1, 2, 4, 8 devices; where there is one device, what eight would say."""

import dataclasses
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np

from liver_jax.bench.collectives import count_collectives
from liver_jax.bench.plan import Plan, case_name
from liver_jax.bench.runs import command, environment, write_config
from liver_jax.bench.step import OurStep, first_line, host_batches
from liver_jax.bench.table import NONE, markdown, rated, scaled
from liver_jax.bench.timing import in_turns, rate
from liver_jax.config import Config
from liver_jax.data.store import SliceStore
from liver_jax.runtime.mesh import batch_sharding, make_mesh, replicated
from liver_jax.training.recipe import make_recipe
from liver_jax.training.state import state_shape
from liver_jax.training.step import make_train_step

DEVICES = (1, 2, 4, 8)


def bench_scaling(plan: Plan) -> dict[str, Any]:
    """Bytes that a step communicates against those of its gradient and, on real devices, its pace.

    Weak: each device has the batch of the first case; strong: all of them share it. Fake devices share one processor,
    so their pace would say nothing.
    """
    if jax.device_count() == 1 or (jax.default_backend() == 'cpu' and jax.device_count() < max(DEVICES)):
        return _on_fake_devices(plan.config)
    counts = [count for count in DEVICES if count <= jax.device_count()]
    fake = jax.default_backend() == 'cpu'
    return {
        'network': case_name(plan.cases[0]),
        'devices': f'{jax.device_count()} {"fake CPU devices" if fake else jax.devices()[0].device_kind}',
        'communicated': [_communicated(plan, count) for count in counts if count > 1],
        'paces': [] if fake else [_paces(plan, count) for count in counts],
    }


def scaling_text(results: dict[str, Any]) -> str:
    """Tables of what is communicated and, if measured, of pace."""
    gradient = results['communicated'][0]['gradient_bytes']
    sent = [
        [f'{row["devices"]}', f'{row["messages"]}', scaled(row['bytes'], 'B'), f'{row["bytes"] / gradient:.3f}']
        for row in results['communicated']
    ]
    lines = [
        markdown(['devices', 'messages a step', 'bytes', '× gradient'], sent),
        '',
        f'{results["network"]} on {results["devices"]}; gradient {scaled(gradient, "B")},',
        f'batch statistics {scaled(results["communicated"][0]["statistics_bytes"], "B")}.',
    ]
    if not results['paces']:
        return '\n'.join([*lines, 'Pace: not measured, fake devices share one processor.'])
    rows = []
    for row in results['paces']:
        cells = [cell for kind in ('weak', 'strong') for cell in _pace_cells(row, kind, results['paces'][0])]
        rows.append([f'{row["devices"]}', *cells])
    return '\n'.join([*lines, '', markdown(['devices', 'weak', '±', '× one', 'strong', '±', '× one'], rows)])


def _pace_cells(row: dict[str, Any], kind: str, one: dict[str, Any]) -> list[str]:
    if 'failed' in row[kind] or 'failed' in one[kind]:
        return [NONE] * 3
    return [*rated(row[kind]), f'{row[kind]["median"] / one[kind]["median"]:.2f}']


def _on_fake_devices(config: Config) -> dict[str, Any]:
    """The same row in a process that takes the processor for eight devices."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / 'config.py'
        write_config(config, file)
        process = subprocess.run(
            command('bench', 'scaling', f'--config={file}', '--json'),
            env=environment(JAX_PLATFORMS='cpu', JAX_NUM_CPU_DEVICES=str(max(DEVICES))),
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    if process.returncode:
        raise RuntimeError(f'on fake devices: {process.stderr.strip()[-500:]}')
    row: dict[str, Any] = json.loads(process.stdout)['rows']['scaling']
    return row


def _communicated(plan: Plan, devices: int) -> dict[str, Any]:
    """Nothing is computed: the bytes stand in the program, and do not depend on the batch."""
    config, mesh = plan.case_config(plan.cases[0]), make_mesh(devices)
    recipe, side = make_recipe(config, 100), config.data.image_size
    state = state_shape(recipe, side)
    state = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=replicated(mesh)), state)
    image = jax.ShapeDtypeStruct((devices, side, side, 1), np.float32, sharding=batch_sharding(mesh))
    step = make_train_step(recipe, mesh)
    text = step.lower(state, {'image': image, 'mask': image}).compile().as_text()  # type: ignore[attr-defined]
    messages, sent = count_collectives(text)
    size = {name: sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(getattr(state, name)))
            for name in ('params', 'batch_stats')}  # fmt: skip
    return {
        'devices': devices,
        'messages': messages,
        'bytes': sent,
        'gradient_bytes': size['params'],
        'statistics_bytes': size['batch_stats'],
    }


def _paces(plan: Plan, devices: int) -> dict[str, Any]:
    """Slices per second, weak and strong."""
    paces: dict[str, Any] = {'devices': devices}
    for kind in ('weak', 'strong'):
        size = plan.cases[0].batch_size * (devices if kind == 'weak' else 1)
        case = dataclasses.replace(plan.cases[0], batch_size=size)
        config = plan.case_config(case)
        try:
            step = OurStep(config, host_batches(SliceStore(Path(config.data.store)), config), make_mesh(devices))
            paces[kind] = rate(in_turns({'step': step}, plan.seconds)['step'].seconds, size)
        except RuntimeError as error:
            paces[kind] = {'failed': first_line(error)}
    return paces
