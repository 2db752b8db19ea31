"""The streams: order, exact resume, independence of threads, what a batch holds."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from liver_jax.data import stream
from liver_jax.data.clock import Clock
from liver_jax.data.store import SliceStore
from liver_jax.data.stream import eval_batches, steps_per_epoch, train_batches


@pytest.fixture(scope='module')
def store(config):
    return SliceStore(Path(config.data.store))


def batches(store, config, rows, batch_size=4, steps=12, seed=0):
    return iter(train_batches(store, rows, 'tumor', config.augment, batch_size, steps, seed))


def flat(batch):
    return [batch[name] for name in ('draws', 'places', 'rows', 'image', 'mask')]


def assert_same(first, second):
    for one, other in zip(flat(first), flat(second), strict=True):
        np.testing.assert_array_equal(one, other)


def test_every_slice_is_seen_once_per_epoch_in_a_new_order(store, config):
    rows = np.arange(3, 23)
    seen = np.concatenate([batch['rows'] for batch in batches(store, config, rows, 4, 10)])
    assert sorted(seen[:20]) == sorted(seen[20:]) == rows.tolist()
    assert seen[:20].tolist() != seen[20:].tolist()


def test_epochs_follow_without_a_gap_when_the_batch_does_not_divide_them(store, config):
    rows = np.arange(7)
    seen = np.concatenate([batch['rows'] for batch in batches(store, config, rows, 3, 7)])
    assert all(sorted(seen[start : start + 7]) == rows.tolist() for start in (0, 7, 14))


def test_more_slices_in_a_batch_than_there_are(store, config):
    batch = next(batches(store, config, np.arange(3), 8, 1))
    assert sorted(batch['rows'][:3]) == sorted(batch['rows'][3:6]) == [0, 1, 2]


def test_resume_is_exact(store, config):
    rows = np.arange(len(store))
    unbroken = list(batches(store, config, rows, steps=140))  # 32 steps are made at once, five times
    first = batches(store, config, rows, steps=140)
    for step, batch in enumerate(first):
        position = first.get_state()
        assert position == {'next_index': step + 1}
        assert_same(batch, unbroken[step])
        if step in (4, 31, 63, 130):
            second = batches(store, config, rows, steps=140)
            second.set_state(position)
            resumed = list(second)
            assert len(resumed) == 139 - step
            for one, other in zip(unbroken[step + 1 :], resumed, strict=True):
                assert_same(one, other)


@pytest.mark.parametrize('threads', [0, 7])
def test_stream_does_not_depend_on_the_number_of_threads(store, config, threads, monkeypatch):
    import grain

    from liver_jax.data import stream

    rows = np.arange(len(store))
    expected = list(batches(store, config, rows, steps=140))
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads and 3)
    monkeypatch.setattr(stream, '_READ_TOGETHER', options)
    for one, other in zip(expected, batches(store, config, rows, steps=140), strict=True):
        assert_same(one, other)


def test_seed_changes_order_and_draws(store, config):
    rows = np.arange(len(store))
    first, second = next(batches(store, config, rows, seed=0)), next(batches(store, config, rows, seed=1))
    assert first['rows'].tolist() != second['rows'].tolist()
    assert (first['draws']['noise_seed'] != second['draws']['noise_seed']).all()


def test_draws_differ_between_steps_and_slices(store, config):
    certain = dataclasses.replace(config, augment=dataclasses.replace(config.augment, rotate=1.0))
    angles = np.stack([batch['draws']['angle'] for batch in batches(store, certain, np.arange(8), steps=140)])
    assert len(np.unique(angles)) == angles.size


def test_batch_holds_the_slices_of_its_rows(store, config):
    batch = next(batches(store, config, np.arange(len(store))))
    np.testing.assert_array_equal(batch['image'], store.images(batch['rows']))
    np.testing.assert_array_equal(batch['mask'], store.masks(batch['rows'], 'tumor'))


def test_without_gathering_the_places_tell_the_slices_and_all_else_is_the_same(store, config):
    rows = np.arange(5, 25)
    arguments = store, rows, 'tumor', config.augment, 4, 12, 0
    for whole, bare in zip(train_batches(*arguments), train_batches(*arguments, gather=False), strict=True):
        assert whole.keys() - bare.keys() == {'image', 'mask'}
        np.testing.assert_array_equal(rows[bare['places']], whole['rows'])
        np.testing.assert_array_equal(bare['draws'], whole['draws'])


def test_clock_counts_each_stage(store, config):
    clock = Clock()
    list(train_batches(store, np.arange(20), 'tumor', config.augment, 4, 12, 0, clock=clock))
    seconds = clock.take()
    assert seconds.keys() == {'order', 'draw', 'gather'}
    assert min(seconds.values()) > 0
    assert clock.take() == {}


def test_evaluation_sees_each_row_once_in_order_and_marks_the_padding(store):
    rows = np.arange(2, 13)
    seen = list(eval_batches(store, rows, 'liver_or_tumor', 4))
    assert np.concatenate([batch['rows'][batch['valid']] for batch in seen]).tolist() == rows.tolist()
    assert [len(batch['rows']) for batch in seen] == [4, 4, 4]
    assert seen[-1]['valid'].tolist() == [True, True, True, False]


@pytest.mark.parametrize(('slices', 'batch', 'steps'), [(227, 8, 28), (3, 8, 1), (8, 8, 1), (12, 8, 2)])
def test_steps_per_epoch(slices, batch, steps):
    assert steps_per_epoch(slices, batch) == steps


@pytest.mark.parametrize('count', [2, 4])
def test_processes_get_the_parts_of_the_same_batches(store, config, count):
    rows = np.arange(len(store))
    whole = list(batches(store, config, rows, steps=40))
    shares = [
        list(train_batches(store, rows, 'tumor', config.augment, 4, 40, 0, process=(index, count)))
        for index in range(count)
    ]
    for batch, *parts in zip(whole, *shares, strict=True):
        joined = {name: np.concatenate([part[name] for part in parts]) for name in batch}
        assert_same(batch, joined)


def test_large_slices_are_made_for_fewer_steps_at_once(store, config, monkeypatch):
    monkeypatch.setattr(stream, '_MOST_PIXELS', 8 * 32**2)
    first = batches(store, config, np.arange(len(store)))
    next(first)
    assert len(first._chunk['rows']) == 8
