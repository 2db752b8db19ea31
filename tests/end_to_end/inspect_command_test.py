"""`liver-jax inspect` and `prepare --shard` as a user runs them."""

import json
import subprocess
import sys

import matplotlib.image
import pytest

from body import body, second_visit, write_body

CONFIG = '--config=configs/default.py'


def liver_jax(*arguments, cwd=None):
    return subprocess.run(
        [sys.executable, '-m', 'liver_jax', *map(str, arguments)], capture_output=True, text=True, cwd=cwd
    )


@pytest.fixture(scope='module')
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp('raw')
    ann = body(0)
    for number, hu in enumerate((ann, second_visit(ann), body(1), body(2))):
        write_body(folder, number, hu)
    return folder


def test_table_sheet_and_augmentation(raw, tmp_path):
    run = liver_jax('inspect', raw, f'--sheet={tmp_path}/sheet.png', f'--augment={tmp_path}/augment.png')
    assert run.returncode == 0, run.stderr
    assert 'volume-0: volume-0, volume-1 (similarity 0.' in run.stdout
    assert '4 cases: 0 ok, 4 with a warning, 0 refused' in run.stdout
    for name in ('sheet', 'augment'):
        assert f'written: {tmp_path}/{name}.png' in run.stdout
        assert min(matplotlib.image.imread(tmp_path / f'{name}.png').shape[:2]) > 200


def test_json_alone_goes_to_the_terminal_and_to_a_file_if_named(raw, tmp_path):
    run = liver_jax('inspect', raw, '--json')
    report = json.loads(run.stdout)
    assert [case['patient'] for case in report['cases']] == ['volume-0', 'volume-0', 'volume-2', 'volume-3']
    assert {'case', 'verdict', 'reasons', 'patient'} <= report['cases'][0].keys()
    assert report['patients'][0]['cases'] == ['volume-0', 'volume-1']
    assert liver_jax('inspect', raw, f'--json={tmp_path}/found.json').returncode == 0
    assert json.loads((tmp_path / 'found.json').read_text()) == report


def test_bare_flags_write_here(raw, tmp_path):
    config = f'--config={__file__.rpartition("/tests/")[0]}/configs/lits.py:nnunet'
    run = liver_jax('inspect', raw, '--sheet', '--augment', config, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ['augmentation.png', 'inspect.png']


def test_a_refused_case_is_exit_code_2_after_the_whole_table(raw, tmp_path):
    for number, hu in enumerate((body(0), body(1))):
        write_body(tmp_path, number, hu)
    (tmp_path / 'volume-1.nii.gz').write_bytes(b'')
    run = liver_jax('inspect', tmp_path)
    assert run.returncode == 2
    assert 'volume-1 (refuse):' in run.stdout
    assert (
        run.stderr.strip().splitlines()[-1].endswith('1 of 2 cases are refused (volume-1); mend them or move them away')
    )


def test_shards_and_merge(raw, tmp_path):
    fields = [CONFIG, f'--config.data.raw={raw}', f'--config.data.store={tmp_path}/store', '--config.data.workers=1']
    for number in range(2):
        run = liver_jax('prepare', *fields, f'--shard={number}/2')
        assert run.returncode == 0, run.stderr
        assert f'shard {number}/2: ' in run.stdout
    run = liver_jax('prepare', *fields, '--merge')
    assert run.stdout == f'slice store: {tmp_path}/store\n', run.stderr
