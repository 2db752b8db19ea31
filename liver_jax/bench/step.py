"""`liver-jax bench step`: the train step on slices that lie on the devices already, beside the same one of others."""

import dataclasses
import gc
import itertools
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from liver_jax.bench.flops import MatrixProduct, count_flops
from liver_jax.bench.plan import Case, Plan, case_name
from liver_jax.bench.table import NONE, figures, markdown, percent, rated, scaled
from liver_jax.bench.timing import Side, Turns, in_turns, rate, ratio
from liver_jax.config import Config
from liver_jax.data.augment import to_unit
from liver_jax.data.store import SliceStore
from liver_jax.runtime.mesh import make_mesh, put_batch
from liver_jax.training.recipe import Recipe, make_recipe
from liver_jax.training.state import init_state, state_shape
from liver_jax.training.step import make_train_step, train_step

log = logging.getLogger(__name__)
ROTATING = 4  # batches, so that no step has the numbers of the one before
OURS, PEAK = 'liver_jax', 'matrix product'
PEAK_IS = "peak: FLOP/s as a part of a large matrix product's, which has its turns too."
WHAT_PEERS_ARE = """ratio: how many times as fast ours is, the median over rounds in turns;
in brackets, in seconds of processors, which others on the machine disturb less.
GFLOPs: of a step, by slice. torch: the same U-Net, from our weights; it has one
bias where our up-sampling has one for each of four pixels. compile: it is
channels-last too. bf16: autocast. MONAI UNet: another architecture, strided, of
the same widths, channels-last. Memory: ours of the program alone, theirs the
peak on a GPU that holds all of their variants."""
HostBatches = list[dict[str, np.ndarray]]


def bench_step(plan: Plan) -> dict[str, Any]:
    """Every case of the plan, in its order; one for which there is no memory or no time is told of."""
    store, started, cases = SliceStore(Path(plan.config.data.store)), time.monotonic(), []
    for case in plan.cases:
        about = {**dataclasses.asdict(case), 'image_size': plan.config.data.image_size}
        if time.monotonic() - started > plan.budget:
            cases.append({**about, 'failed': f'left out: the row had taken its {plan.budget:.0f} seconds'})
            continue
        log.info('step: %s', case_name(case))
        try:
            cases.append(about | _measure(plan, case, store))
            log.info('  %s', _in_short(cases[-1]['sides']))
        except RuntimeError as error:  # such as no memory, of JAX or PyTorch
            log.warning('step: %s: %s', case_name(case), first_line(error))
            cases.append({**about, 'failed': first_line(error)})
        gc.collect()  # what one case held on the devices is room for the next
    return {'cases': cases}


def step_text(results: dict[str, Any]) -> str:
    """A table with a row per case and, below it, one per peer; what they are is said beneath."""
    head = ['one step', 'slices/s', '±', 'ratio', 'FLOP/s', 'peak', 'memory']
    rows, notes = [], []
    for case in results['cases']:
        name = case_name(Case(**{field.name: case[field.name] for field in dataclasses.fields(Case)}))
        if 'failed' in case:
            rows.append([name, *[NONE] * 6])
            notes.append(f'{name}: {case["failed"]}')
            continue
        for side in case['sides']:
            rows.append([name if side['name'] == OURS else f'· {side["name"]}', *_cells(side)])
            if 'failed' in side:
                notes.append(f'{name}, {side["name"]}: {side["failed"]}')
        notes.append(_proof(name, case['sides']))
    if any(len(case.get('sides', [])) > 1 for case in results['cases']):
        notes += ['', WHAT_PEERS_ARE]
    return '\n'.join([markdown(head, rows), '', PEAK_IS, '', *notes])


def first_line(error: BaseException) -> str:
    """What an error says first."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


class OurStep:
    """The compiled train step of a config on rotating batches. A `timing.Side`."""

    def __init__(self, config: Config, batches: HostBatches, mesh: Mesh) -> None:
        recipe = make_recipe(config, steps_per_epoch=100)
        self._state = init_state(recipe, config.data.image_size, config.seed, mesh)
        self.initial = jax.device_get(self._state.variables)
        on_devices = [put_batch(batch, mesh) for batch in batches]
        self._program = make_train_step(recipe, mesh).lower(self._state, on_devices[0]).compile()  # type: ignore[attr-defined]
        self._batches = itertools.cycle(on_devices)
        self.facts = {
            'parameters': sum(leaf.size for leaf in jax.tree.leaves(self._state.params)),
            'step_flops_per_slice': _step_flops(recipe, config),
            'memory_bytes': _memory(self._program),
        }

    def __call__(self, calls: int) -> None:
        """Take so many steps, and wait for the last one."""
        for _ in range(calls):
            self._state, metrics = self._program(self._state, next(self._batches))
        jax.block_until_ready((self._state, metrics))
        self.facts.setdefault('first_loss', float(metrics['loss']))


def host_batches(store: SliceStore, config: Config, count: int = ROTATING) -> HostBatches:
    """Batches of slices as the network gets them, without augmentation: float32 [N, H, W, 1] in [0, 1]."""
    size = config.train.batch_size
    order = np.random.default_rng(0).permutation(len(store))
    rows = [order.take(range(start, start + size), mode='wrap') for start in range(0, count * size, size)]
    target = config.data.target
    planes = [{'image': store.images(some), 'mask': store.masks(some, target)} for some in rows]
    return [{name: np.asarray(to_unit(jnp.asarray(each))) for name, each in both.items()} for both in planes]


def _measure(plan: Plan, case: Case, store: SliceStore) -> dict[str, Any]:
    config = plan.case_config(case)
    batches, mesh = host_batches(store, config), make_mesh(None if jax.default_backend() == 'cpu' else 1)
    ours, product = OurStep(config, batches, mesh), MatrixProduct(case.dtype)
    sides: dict[str, Any] = {PEAK: product, OURS: ours}
    failed: dict[str, str] = {}
    if plan.peers and case.peers:
        from liver_jax.bench.peers.torch_step import torch_sides

        more, failed = torch_sides(config, batches, ours.initial)
        sides |= more
    turns = in_turns(sides, plan.seconds)
    peak = rate(turns.pop(PEAK).seconds, product.flops)
    described = [_describe(name, sides[name], turns, case.batch_size, peak['median']) for name in turns]
    return {'peak_flops': peak, 'sides': described + [{'name': name, 'failed': why} for name, why in failed.items()]}


def _describe(name: str, side: Side, turns: dict[str, Turns], batch_size: int, peak: float) -> dict[str, Any]:
    facts: dict[str, Any] = side.facts  # type: ignore[attr-defined]
    own, pace = turns[name], rate(turns[name].seconds, batch_size)
    flops = pace['median'] * facts['step_flops_per_slice']
    return {
        'name': name,
        'slices_per_second': pace,
        'seconds_per_step': own.seconds,
        'processor_seconds_per_step': own.processor_seconds,
        'ours_to_it': ratio(turns[OURS].seconds, own.seconds),
        'ours_to_it_in_processor_time': ratio(turns[OURS].processor_seconds, own.processor_seconds),
        'model_flops': flops,
        'of_peak': flops / peak,
        **facts,
    }


def _step_flops(recipe: Recipe, config: Config) -> float:
    """FLOPs of a step by slice, forward and backward, as counted in its program."""
    side = config.data.image_size
    state = state_shape(recipe, side)
    one = jax.ShapeDtypeStruct((1, side, side, 1), np.float32)
    return count_flops(lambda *both: train_step(recipe, *both), state, {'image': one, 'mask': one})


def _memory(program: Any) -> int | None:
    """Bytes that a compiled program holds at once, its arguments and results among them."""
    analysis = program.memory_analysis()
    if analysis is None:
        return None
    held = analysis.argument_size_in_bytes + analysis.output_size_in_bytes + analysis.temp_size_in_bytes
    return int(held - analysis.alias_size_in_bytes)


def _in_short(sides: Sequence[dict[str, Any]]) -> str:
    """For those who watch, and in case that what follows is ended from without."""
    paces = [f'{side["name"]} {figures(side["slices_per_second"]["median"])}' for side in sides if 'failed' not in side]
    return ', '.join(paces) + ' slices/s'


def _cells(side: dict[str, Any]) -> list[str]:
    if 'failed' in side:
        return [NONE] * 6
    return [
        *rated(side['slices_per_second']),
        NONE if side['name'] == OURS else figures(side['ours_to_it']['median']),
        scaled(side['model_flops']),
        percent(side['of_peak']),
        scaled(side['memory_bytes'], 'B'),
    ]


def _proof(name: str, sides: Sequence[dict[str, Any]]) -> str:
    """Parameters and FLOPs of all sides; beside peers the loss of the first step, from the same weights."""
    there = [side for side in sides if 'failed' not in side]
    lines = []
    for side in there:
        line = f'{side["parameters"]:,} parameters, {side["step_flops_per_slice"] / 1e9:.3f} GFLOPs'
        if len(there) > 1:
            line = f'  {side["name"]:<20}{line}, loss {side["first_loss"]:.4f}'
        if side['name'] != OURS:
            line += f' ({figures(side["ours_to_it_in_processor_time"]["median"])})'
        lines.append(line)
    return f'{name}: {lines[0]}' if len(lines) == 1 else '\n'.join([f'{name}:', *lines])
