"""The benchmark of the stream: what it reports. How fast it is, no test can tell."""

import json
import math

import jax
import pytest

from liver_jax.bench import data
from liver_jax.cli_flags import parse_flags
from liver_jax.commands import COMMANDS
from small_ct import command, small_config

# How ml_collections reads config files, on Python 3.11.
pytestmark = pytest.mark.filterwarnings(r'ignore:the load_module\(\) method:DeprecationWarning')
STAGES = ['read', 'draw', 'gather', 'batch', 'host', 'transfer', 'augment']


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(data, 'SLICES', 40)
    monkeypatch.setattr(data, 'SECONDS', 0.01)


@pytest.fixture
def run(tmp_path, capsys):
    """Numbers and table of `liver-jax bench data` with a config."""

    def run(config):
        overrides = command('', config, tmp_path)[5:-1]  # without --config: the default one
        arguments = [*overrides, f'--json={tmp_path / "numbers.json"}']
        bench = COMMANDS['bench data']
        bench.run(parse_flags('bench data', bench, arguments))
        return json.loads((tmp_path / 'numbers.json').read_text()), capsys.readouterr().out

    return run


def test_every_stage_has_its_row(quick, run, tmp_path):
    results, table = run(small_config(tmp_path, tmp_path / 'no store', data_placement='device'))
    rows = {row['stage']: row for row in results['rows']}
    assert list(rows) == STAGES
    for row in rows.values():
        assert row['slices_per_second'] > 0
        assert math.isclose(row['slices_per_second'] * row['microseconds_per_slice'], 1e6)
    assert results['host_slices_per_second_per_core'] > 0.9 * rows['host']['slices_per_second']  # of time that is ours
    parts = [rows[stage]['microseconds_per_slice'] for stage in ('draw', 'gather', 'batch')]
    assert sum(parts) > 0.999 * rows['host']['microseconds_per_slice']  # more where the stream had run ahead
    training = results['training']
    assert (training['network'], training['width'], training['placement']) == ('U-Net', 8, 'device')
    low, high = training['real_of_dummy_spread']
    assert 0 < low <= training['real_of_dummy_percent'] <= high
    assert 0 <= training['waited_percent'] <= 100
    assert (results['store'], results['slices'], results['image_size']) == ('random bytes', 40, 32)
    assert results['machine']['devices'] == 8
    assert results['machine']['versions']['jax'] == jax.__version__
    assert [line.split()[0] for line in table.splitlines()[4:11]] == STAGES
    assert not (tmp_path / 'no store').exists()


def test_the_store_of_the_config_is_measured_where_there_is_one(quick, run, config):
    results, table = run(config)
    assert results['store'] == config.data.store
    assert config.data.store in table
