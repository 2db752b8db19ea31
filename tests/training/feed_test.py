"""Batches on the devices: both placements give the same bits, and the waiting is measured."""

import dataclasses
import threading
import time
from pathlib import Path

import grain
import jax
import numpy as np
import pytest

from liver_jax.data import stream
from liver_jax.data.augment import augment_batch
from liver_jax.data.clock import Clock
from liver_jax.data.store import SliceStore
from liver_jax.data.stream import train_batches
from liver_jax.runtime.mesh import batch_sharding, make_mesh
from liver_jax.runtime.telemetry import read_history
from liver_jax.training import feed as feed_module
from liver_jax.training import loop, waiting
from liver_jax.training.feed import Feed

ROWS = np.arange(3, 27)
STEPS = 40


@pytest.fixture(scope='module')
def store(config):
    return SliceStore(Path(config.data.store))


def make_feed(config, store, placement, devices=8):
    placed = dataclasses.replace(config, data=dataclasses.replace(config.data, placement=placement))
    return Feed(placed, store, ROWS, make_mesh(devices), STEPS)


def take(feed, steps, step=lambda: None):
    """Batches as numpy, fetched as the loop does: nothing may be copied to a device by accident."""
    batches = []
    for _ in range(steps):
        with jax.transfer_guard('disallow'):
            batch = feed.next_batch(step())
        batches.append(jax.device_get(batch))
    return batches


def assert_same(batches, others):
    assert len(batches) == len(others)
    jax.tree.map(np.testing.assert_array_equal, batches, others)


@pytest.mark.parametrize('devices', [1, 8])
def test_both_placements_give_the_same_bits(config, store, devices):
    host, device = (make_feed(config, store, placement, devices) for placement in ('host', 'device'))
    assert_same(take(host, 12), take(device, 12))
    with jax.transfer_guard('disallow'):
        batch = device.next_batch(None)
    assert batch['image'].sharding.is_equivalent_to(batch_sharding(make_mesh(devices)), 4)
    host.close()
    device.close()


def test_a_batch_is_the_augmentation_of_its_slices(config, store):
    arguments = store, ROWS, config.data.target, config.augment, config.train.batch_size, STEPS, config.seed
    raw = next(iter(train_batches(*arguments)))
    draws = {name: raw['draws'][name] for name in raw['draws'].dtype.names}
    expected = jax.jit(augment_batch)(raw['image'], raw['mask'], draws)
    feed = make_feed(config, store, 'device')
    for name, values in take(feed, 1)[0].items():
        np.testing.assert_allclose(values, expected[name], atol=1e-6)
    feed.close()


@pytest.mark.parametrize('before', ['host', 'device'])
@pytest.mark.parametrize('after', ['host', 'device'])
def test_resume_is_exact_in_either_placement(config, store, before, after):
    first = make_feed(config, store, before)
    take(first, 5)
    position = first.get_state()
    assert position == {'next_index': 5}
    second = make_feed(config, store, after)
    second.set_state(position)
    assert_same(take(first, 7), take(second, 7))
    first.close()
    second.close()


@pytest.mark.parametrize('threads', [0, 7])
def test_batches_do_not_depend_on_the_number_of_threads(config, store, threads, monkeypatch):
    expected = take(make_feed(config, store, 'device'), 12)
    monkeypatch.setattr(
        stream, '_READ_TOGETHER', grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads and 3)
    )
    assert_same(take(make_feed(config, store, 'device'), 12), expected)


class Step:
    """In place of what a step returns: it is done some seconds after the next batch was asked for."""

    def __init__(self, seconds):
        self._end = time.perf_counter() + seconds

    def block_until_ready(self):
        time.sleep(max(0.0, self._end - time.perf_counter()))


class LongStep:
    """A step that is done only once the next batch is on the devices, however slow the machine."""

    def __init__(self):
        self.ends = threading.Event()

    def block_until_ready(self):
        self.ends.wait()


def slowly(monkeypatch, owner, name, seconds=0.01):
    monkeypatch.setattr(stream, '_TOGETHER', 1)  # one step at a time
    quick = getattr(owner, name)

    def slow(*arguments):
        time.sleep(seconds)
        return quick(*arguments)

    monkeypatch.setattr(owner, name, slow)


@pytest.mark.parametrize(
    ('owner', 'name', 'stage'), [(SliceStore, 'masks', 'gather'), (feed_module, 'put_batch', 'transfer')]
)
def test_a_slow_stage_makes_the_devices_wait_and_is_named(config, store, owner, name, stage, monkeypatch):
    slowly(monkeypatch, owner, name, 0.05)  # much longer than the other stages, on a busy machine too
    monkeypatch.setattr(feed_module, 'augment_records', lambda images, *_, layout: images)  # at once
    feed = make_feed(config, store, 'host')
    take(feed, 30, lambda: Step(0))
    feed.close()
    assert feed.waiting.percent() > 60
    assert f'most of it for {stage!r}' in feed.waiting.warning()


def test_no_waiting_while_the_devices_are_at_work(config, store, monkeypatch):
    slowly(monkeypatch, SliceStore, 'masks')
    feed = make_feed(config, store, 'host')
    for _ in range(30):
        step = LongStep()
        jax.block_until_ready(feed.next_batch(step))
        step.ends.set()
    feed.close()
    assert feed.waiting.percent() == 0
    assert feed.waiting.warning() is None


def test_of_a_wait_only_what_comes_after_the_end_of_the_step_counts():
    """Batches asked for at 0, out of the stream at 4, there at 5; the step was done at 3: two of five waited."""
    meter = waiting.Waiting(Clock())
    for _ in range(waiting._COMPILED_BY):
        meter.count(0.0, 0.0, 0.0, 0.0)
    for start in (0.0, 5.0, 10.0):
        meter.count(asked=start, streamed=start + 4, there=start + 5, done=start + 3)
    assert meter._row.streaming == 2
    assert meter._row.transferring == 2
    assert meter.percent() == 40
    meter.close()


def quick_step(monkeypatch):
    """A step of training that has next to nothing to do."""
    step = jax.jit(lambda batch: {'loss': batch['mask'].mean(), 'learning_rate': batch['image'].mean()})
    monkeypatch.setattr(loop, 'make_train_step', lambda *_: lambda state, batch: (state, step(batch)))


def test_a_run_that_fails_leaves_no_thread_behind(config, tmp_path, monkeypatch):
    quick_step(monkeypatch)
    monkeypatch.setattr(loop.Meter, 'add', lambda *_: 1 / 0)
    before = set(threading.enumerate())
    with pytest.raises(ZeroDivisionError) as failure:  # its traceback keeps the run alive, as a debugger would
        loop.train(config, tmp_path / 'run')
    left = set(threading.enumerate()) - before
    for thread in left:
        thread.join(timeout=5)
    assert not [thread.name for thread in left if thread.is_alive()]
    assert failure.traceback


def test_training_warns_and_logs_the_waiting(config, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(waiting, '_FEWEST', 2)
    slowly(monkeypatch, SliceStore, 'masks', 0.1)
    quick_step(monkeypatch)
    slow = dataclasses.replace(config, data=dataclasses.replace(config.data, placement='host'))
    loop.train(slow, tmp_path / 'run')
    percents = [row['pace/data_wait_percent'] for row in read_history(tmp_path / 'run') if 'train/loss' in row]
    assert max(percents) > waiting.TOO_MUCH
    warnings = [record.message for record in caplog.records if 'waited for data' in record.message]
    assert 1 <= len(warnings) <= slow.train.epochs
    assert "'gather'; data.placement='device'" in warnings[0]
