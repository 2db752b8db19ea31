"""`liver-jax bench data`: what each stage from store to device delivers, and what real data costs the training."""

import dataclasses
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import jax
import numpy as np

from liver_jax.bench.plan import Plan
from liver_jax.bench.table import NONE, figures, markdown, rated
from liver_jax.config import Config
from liver_jax.data.clock import Clock
from liver_jax.data.records import as_words
from liver_jax.data.store import SliceStore
from liver_jax.data.stream import train_batches
from liver_jax.evaluation.run import open_store
from liver_jax.models import DISPLAY_NAMES
from liver_jax.runtime.mesh import batch_sharding, check_divisible, make_mesh, put_batch
from liver_jax.training.feed import Feed, augment_records
from liver_jax.training.recipe import make_recipe
from liver_jax.training.state import init_state
from liver_jax.training.step import make_train_step

ROUNDS = 5  # the best of them counts: what else the machine does only slows it down
SECONDS = 0.5  # at least, of each round
WIDTH_ON_CPU = 8  # at most: a wide network would take minutes there
TURNS = 6  # of real and dummy data, every other one the other way round
ENDLESS = 10**9  # steps


@dataclasses.dataclass(frozen=True)
class Row:
    """What one stage delivers on its own."""

    stage: str
    slices_per_second: float
    microseconds_per_slice: float
    what: str


def bench_data(plan: Plan) -> dict[str, Any]:
    """Measure on the store of the config; the results as plain data.

    The rows 'draw', 'gather' and 'batch' add up to 'host': all that happens before the transfer, with one core for
    both the thread that reads and the one that takes the batches. `host_slices_per_second_per_core` is of the seconds
    that this process had of the core; the rows are of all that passed, which is more where others run on it.
    """
    config, mesh = plan.config, make_mesh()
    check_divisible('train.batch_size', config.train.batch_size, mesh, config.train.accumulate)
    store, batch_size = open_store(config), config.train.batch_size
    host, own = _host_rows(config, store)
    device = _device_rows(config, store, mesh)
    results = {
        'host_slices_per_second_per_core': batch_size / own,
        'rows': [dataclasses.asdict(row) for row in (*host, *device)],
        'training': _training(config, store, mesh),
        'batch_size': batch_size,
        'image_size': config.data.image_size,
        'target': config.data.target,
        'slices': len(store),
    }
    if plan.peers:
        from liver_jax.bench.peers.loaders import bench_loaders

        results['peers'] = bench_loaders(config, store, mesh, plan.seconds)
    return results


def data_text(results: dict[str, Any]) -> str:
    """The results as a table for people."""
    training = results['training']
    stages = [
        [row['stage'], f'{row["slices_per_second"]:,.0f}', f'{row["microseconds_per_slice"]:.2f}', row['what']]
        for row in results['rows']
    ]
    lines = [
        f'{results["slices"]} slices of {results["image_size"]}x{results["image_size"]}, target {results["target"]}, '
        f'batches of {results["batch_size"]}',
        '',
        markdown(['stage', 'slices/s', 'µs a slice', 'of'], stages),
    ]
    lines += [
        '',
        f'The host delivers {results["host_slices_per_second_per_core"]:,.0f} slices/s on one core.',
        f'Training {training["network"]} of width {training["width"]}, data.placement={training["placement"]!r}:',
        f'  {training["real_slices_per_second"]:,.0f} slices/s on real data, '
        f'{training["dummy_slices_per_second"]:,.0f} on one fixed batch '
        f'(median {training["real_of_dummy_percent"]:.0f} %, '
        f'{training["real_of_dummy_spread"][0]:.0f} to {training["real_of_dummy_spread"][1]:.0f});',
        f'  the devices waited for data {training["waited_percent"]:.1f} % of the time.',
    ]
    if 'peers' in results:
        lines += ['', _beside_monai(results['peers'])]
    return '\n'.join(lines)


def _beside_monai(peers: dict[str, Any]) -> str:
    rows = [
        ['ours', *rated(peers['ours']), NONE],
        [f'MONAI, {peers["workers"]} workers', *rated(peers['monai']), figures(peers['ours_to_it']['median'])],
    ]
    return markdown(['augmented batches on the device', 'slices/s', '±', 'ratio'], rows)


def _host_rows(config: Config, store: SliceStore) -> tuple[list[Row], float]:
    """Reading in order, then the stages of the training stream as it runs, all on one core and without JAX.

    Also the seconds of processor time that the stream takes for a batch.
    """
    order, batch_size, clock = np.arange(len(store)), config.train.batch_size, Clock()
    whole = max(1, len(order) // batch_size)

    def read(number: int) -> None:
        start = number % whole * batch_size
        batch = order[start : start + batch_size]
        store.images(batch)
        store.masks(batch, config.data.target)

    with _one_core():
        reading = _best(read)[0]
        stream = iter(_stream(config, store, clock=clock))
        try:
            next(stream)
            streaming, steps, taken, own = _best(lambda _: next(stream), clock.take)
        finally:
            stream.close()
    draw, gather = (taken.get(stage, 0.0) / steps for stage in ('draw', 'gather'))
    rows = [
        _row('read', reading, batch_size, 'images and masks, in store order'),
        _row('draw', draw, batch_size, 'random numbers of augmentation'),
        _row('gather', gather, batch_size, 'images and masks, in random order'),
        _row('batch', max(streaming - draw - gather, 1e-9), batch_size, 'the order, and what grain adds'),
        _row('host', streaming, batch_size, 'all of it: draw + gather + batch'),
    ]
    return rows, own


def _device_rows(config: Config, store: SliceStore, mesh: jax.sharding.Mesh) -> list[Row]:
    """Transfer and augmentation of one batch, each until it is done."""
    host, layout = _host_batch(config, store)
    device = put_batch(host, mesh)
    augment = partial(_make_augment(mesh), **device, layout=layout)
    transferring = _best(lambda _: jax.block_until_ready(put_batch(host, mesh)))[0]
    augmenting = _best(lambda _: jax.block_until_ready(augment()))[0]
    return [
        _row('transfer', transferring, config.train.batch_size, 'slices and draws, host to devices'),
        _row('augment', augmenting, config.train.batch_size, 'on the devices'),
    ]


def _training(config: Config, store: SliceStore, mesh: jax.sharding.Mesh) -> dict[str, Any]:
    """Steps on real data, and the same work on one fixed batch, in turns."""
    if jax.default_backend() == 'cpu':
        model_config = dataclasses.replace(config.model, width=min(config.model.width, WIDTH_ON_CPU))
        config = dataclasses.replace(config, model=model_config)
    recipe = make_recipe(config, steps_per_epoch=100)
    step_fn = make_train_step(recipe, mesh)
    state = init_state(recipe, config.data.image_size, config.seed, mesh)
    feed = Feed(config, store, np.arange(len(store)), mesh, ENDLESS)
    host, layout = _host_batch(config, store)
    dummy = partial(_make_augment(mesh), **put_batch(host, mesh), layout=layout)
    metrics: dict[str, jax.Array] = {}

    def run(next_batch: Callable[[], dict[str, jax.Array]], steps: int) -> float:
        nonlocal state, metrics
        start = time.perf_counter()
        for _ in range(steps):
            state, metrics = step_fn(state, next_batch())
        jax.block_until_ready(metrics)
        return (time.perf_counter() - start) / steps

    def real() -> dict[str, jax.Array]:
        return feed.next_batch(metrics.get('loss'))

    try:
        run(dummy, 2)
        run(real, 2)
        steps = int(np.clip(2 * SECONDS / run(dummy, 2), 4, 1000))
        dummy_seconds: list[float] = []
        real_seconds: list[float] = []
        for number in range(TURNS):
            for next_batch, seconds in ((dummy, dummy_seconds), (real, real_seconds))[:: 1 - 2 * (number % 2)]:
                feed.waiting.restart()
                seconds.append(run(next_batch, steps))
    finally:
        feed.close()
    ratios = 100 * np.array(dummy_seconds) / np.array(real_seconds)  # of neighbours in time
    return {
        'network': DISPLAY_NAMES[config.model.name],
        'width': config.model.width,
        'placement': feed.placement,
        'real_slices_per_second': config.train.batch_size / float(np.median(real_seconds)),
        'dummy_slices_per_second': config.train.batch_size / float(np.median(dummy_seconds)),
        'real_of_dummy_percent': float(np.median(ratios)),
        'real_of_dummy_spread': [float(ratios.min()), float(ratios.max())],
        'waited_percent': feed.waiting.percent(),
    }


def _stream(config: Config, store: SliceStore, clock: Clock | None = None) -> Any:
    rows, batch_size = np.arange(len(store)), config.train.batch_size
    return train_batches(store, rows, config.data.target, config.augment, batch_size, ENDLESS, config.seed, clock=clock)


def _host_batch(config: Config, store: SliceStore) -> tuple[dict[str, np.ndarray], Any]:
    """One batch as it is transferred, and the layout of its draws."""
    stream = iter(_stream(config, store))
    batch = next(stream)
    stream.close()
    host = {'images': batch['image'], 'masks': batch['mask'], 'words': as_words(batch['draws'])}
    return host, batch['draws'].dtype


def _make_augment(mesh: jax.sharding.Mesh) -> Any:
    return jax.jit(augment_records, static_argnames='layout', out_shardings=batch_sharding(mesh))


def _row(stage: str, seconds: float, batch_size: int, what: str) -> Row:
    return Row(stage, batch_size / seconds, 1e6 * seconds / batch_size, what)


def _best(
    work: Callable[[int], Any], look: Callable[[], dict[str, float]] = dict
) -> tuple[float, int, dict[str, float], float]:
    """Seconds per call in the best of several rounds, its calls, what `look` saw of it, and processor time per call."""
    start, calls = time.perf_counter(), 0
    while calls < 3 or time.perf_counter() - start < SECONDS / 5:  # warms up, and tells how many make a round
        work(calls)
        calls += 1
    calls = max(3, int(calls * SECONDS / (time.perf_counter() - start)))
    rounds = []
    for number in range(ROUNDS):
        look()
        start, own = time.perf_counter(), time.process_time()
        for call in range(number * calls, (number + 1) * calls):
            work(call)
        passed, own = time.perf_counter() - start, time.process_time() - own
        rounds.append((passed / calls, calls, look(), own / calls))
    return min(rounds, key=lambda each: each[0])


@contextmanager
def _one_core() -> Iterator[None]:
    """This thread, and those that it starts, share one core (where the system can do that)."""
    if not hasattr(os, 'sched_setaffinity'):
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)
