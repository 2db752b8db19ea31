"""The benchmark of the stream: what it reports. How fast it is, no test can tell."""

import math

from liver_jax.bench import data
from liver_jax.bench.plan import Case, Plan

STAGES = ['read', 'draw', 'gather', 'batch', 'host', 'transfer', 'augment']


def test_every_stage_has_its_row(monkeypatch, config):
    monkeypatch.setattr(data, 'SECONDS', 0.01)
    results = data.bench_data(Plan(config, (Case('unet', 8, 'float32', 8),), steps=2, slices=8, seconds=0.01, budget=1))
    rows = {row['stage']: row for row in results['rows']}
    assert list(rows) == STAGES
    for row in rows.values():
        assert row['slices_per_second'] > 0
        assert math.isclose(row['slices_per_second'] * row['microseconds_per_slice'], 1e6)
    assert results['host_slices_per_second_per_core'] > 0.9 * rows['host']['slices_per_second']  # of time that is ours
    parts = [rows[stage]['microseconds_per_slice'] for stage in ('draw', 'gather', 'batch')]
    assert sum(parts) > 0.999 * rows['host']['microseconds_per_slice']  # more where the stream had run ahead
    training = results['training']
    assert (training['network'], training['width'], training['placement']) == ('U-Net', 8, 'host')
    low, high = training['real_of_dummy_spread']
    assert 0 < low <= training['real_of_dummy_percent'] <= high
    assert 0 <= training['waited_percent'] <= 100
    assert (results['slices'], results['image_size']) == (40, 32)
    table = data.data_text(results)
    assert max(map(len, table.splitlines())) <= 80
    assert [line.split()[1] for line in table.splitlines()[4:11]] == STAGES
