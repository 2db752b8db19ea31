"""All rows on tiny networks: what they report, how it looks in a terminal. How fast it is, no test can tell."""

import dataclasses
import json
import re

import jax
import pytest

from liver_jax.bench import predict, run, scaling, start, step, train
from liver_jax.bench.plan import Case, Plan
from liver_jax.errors import UserError

CASES = (Case('unet', 8, 'float32', 8, peers=True),)


def tiny_plan(config, *_):
    return Plan(config, CASES, steps=6, slices=16, seconds=0.01, budget=600)


@pytest.fixture(scope='module')
def measured(config, tmp_path_factory):
    """The JSON of a run of all rows, and what it showed."""
    shown, file = [], tmp_path_factory.mktemp('bench') / 'numbers.json'
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, 'make_plan', tiny_plan)
        patch.delitem(run.ROWS, 'data')  # see data_test
        patch.setattr(scaling, 'DEVICES', (1, 2, 8))
        for module in (train, predict, start):
            patch.setattr(module, 'ROUNDS', 1)
        run.bench(config, 'all', False, 'liver-jax bench', shown.append, file)
    return json.loads(file.read_text()), '\n'.join(shown)


def test_every_row_is_there_and_says_what_it_ran_on(measured, config):
    results, text = measured
    assert list(results['rows']) == ['step', 'train', 'eval', 'predict', 'start', 'scaling']
    assert (results['failed'], results['command'], results['store']) == ({}, 'liver-jax bench', config.data.store)
    assert results['machine']['devices'] == 8
    assert results['machine']['versions']['jax'] == jax.__version__
    assert f'jax {jax.__version__}' in text


def test_all_of_it_fits_a_terminal_of_80_columns(measured):
    lines = [line for line in measured[1].splitlines() if 'cores' not in line]
    assert not [line for line in lines if len(line) > 80]
    assert [line.removeprefix('## ') for line in lines if line.startswith('##')] == list(measured[0]['rows'])


def test_step(measured):
    [case] = measured[0]['rows']['step']['cases']
    assert (case['name'], case['width'], case['dtype'], case['batch_size']) == ('unet', 8, 'float32', 8)
    [ours] = case['sides']
    assert ours['parameters'] == 6513
    assert 0 < ours['slices_per_second']['lowest'] <= ours['slices_per_second']['median']
    assert ours['model_flops'] == pytest.approx(ours['step_flops_per_slice'] * ours['slices_per_second']['median'])
    assert ours['of_peak'] == pytest.approx(ours['model_flops'] / case['peak_flops']['median'])
    assert ours['memory_bytes'] > 3 * 4 * ours['parameters']  # parameters and Adam's two means
    assert ours['ours_to_it'] == {'median': 1, 'lowest': 1, 'highest': 1}


def test_the_loop_beside_its_step(measured):
    row = measured[0]['rows']['train']
    assert row['steps'] == 6
    assert len(row['waited_percent']) == 1
    assert row['loop_to_step']['median'] == pytest.approx(row['loop']['median'] / row['step']['median'])  # of one turn


def test_scores_and_scans(measured):
    assert set(measured[0]['rows']['eval']['per_second']) == {'predict', 'score', 'volume'}
    row = measured[0]['rows']['predict']
    assert row['slices'] == [8, 8, 8]
    assert row['volumes_per_second'] > 0
    assert row['command_seconds'] > row['latency_seconds']  # JAX starts, and the network is loaded


def test_start(measured):
    row = measured[0]['rows']['start']
    assert (len(row['warm_seconds']), row['image_size'], row['depth']) == (1, 64, 3)
    assert row['cold_seconds'] > row['help_seconds'][0]


def test_a_step_sends_its_gradient_and_batch_statistics_once(measured):
    """The gradient's bytes are those of the parameters; sums of each norm go forth and back, and the loss."""
    parameters = measured[0]['rows']['step']['cases'][0]['sides'][0]['parameters']
    rows = measured[0]['rows']['scaling']['communicated']
    assert [row['devices'] for row in rows] == [2, 8]
    for row in rows:
        assert row['gradient_bytes'] == 4 * parameters
        assert row['statistics_bytes'] == 4 * 2 * 64  # mean and variance of the channels of six norms
        assert row['gradient_bytes'] < row['bytes'] <= row['gradient_bytes'] + 2 * row['statistics_bytes']


@pytest.mark.parametrize('kind', [RuntimeError, UserError])
def test_a_row_that_fails_ends_none_of_the_others(config, tmp_path, monkeypatch, kind):
    def fails(plan):
        raise kind('RESOURCE_EXHAUSTED: no room\nand a page more')

    def works(plan):
        return {'answer': 42}

    monkeypatch.setattr(run, 'ROWS', {'first': (fails, str), 'second': (works, lambda row: f'{row["answer"]}')})
    shown = []
    with pytest.raises(UserError, match=re.escape('1 of 2 rows failed (first: RESOURCE_EXHAUSTED: no room)')):
        run.bench(config, 'all', False, '', shown.append, tmp_path / 'numbers.json')
    results = json.loads((tmp_path / 'numbers.json').read_text())
    assert results['rows']['second']['answer'] == 42
    assert results['failed'] == {'first': 'RESOURCE_EXHAUSTED: no room'}
    assert '42' in shown[-1]


def test_a_case_without_room_or_time_is_told_of(config, monkeypatch):
    def no_room(*_):
        raise RuntimeError('RESOURCE_EXHAUSTED: Out of memory allocating 99 bytes.')

    monkeypatch.setattr(step, '_measure', no_room)
    plan = Plan(config, CASES, steps=1, slices=1, seconds=0.01, budget=600)
    text = step.step_text(step.bench_step(plan))
    assert 'U-Net/8 f32 ×8: RESOURCE_EXHAUSTED: Out of memory allocating 99 bytes.' in text
    late = step.bench_step(Plan(config, CASES, steps=1, slices=1, seconds=0.01, budget=-1))
    assert [case['failed'] for case in late['cases']] == ['left out: the row had taken its -1 seconds']


def test_without_a_store_slices_are_made_of_the_volumes_or_made_up(config, monkeypatch):
    seen = []
    monkeypatch.setattr(run, 'SLICES', 20)
    monkeypatch.setattr(run, 'ROWS', {'look': (lambda plan: seen.append(plan.config.data) or {}, str)})
    for folder in ('raw', ''):
        data = dataclasses.replace(config.data, store='nowhere', raw=folder and config.data.raw)
        made_up = dataclasses.replace(config, data=data)
        results = run.bench(made_up, 'all', False, '', str, None)
        assert results['store'] == (config.data.raw if folder else 'synthetic CT')
    assert all(data.store != 'nowhere' for data in seen)
