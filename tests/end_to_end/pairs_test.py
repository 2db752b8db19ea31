"""Several seeds and folds: what is shared within a pair, where things lie, what is said of the difference."""

import html
import json
import shutil
from pathlib import Path

import pytest

from liver_jax.compare import compare
from liver_jax.errors import UserError
from liver_jax.evaluation.results import evaluate_run
from liver_jax.pairs import plan_pairs
from liver_jax.report.findings import gather
from liver_jax.report.html import make_page
from liver_jax.report.panel_table import panel_text
from liver_jax.runtime.checkpoint import Checkpoints
from liver_jax.runtime.run_folder import read_run_config
from small_ct import small_config


def small(config, **overrides):
    """One epoch of the smallest networks on the store of `config`."""
    smallest = {'model_depth': 1, 'train_epochs': 1, 'optim_learning_rate': 0.01, 'optim_warmup_epochs': 0.0}
    return small_config(config.data.raw, config.data.store, **smallest, **overrides)


@pytest.fixture(scope='module')
def seeds(config, tmp_path_factory):
    workdir = tmp_path_factory.mktemp('seeds') / 'run'
    text = compare(small(config, compare_seeds=2), workdir, 100)
    return workdir, text, json.loads((workdir / 'comparison.json').read_text())


def test_two_seeds_share_the_split_and_nothing_else(seeds):
    workdir, _, comparison = seeds
    folders = [workdir / f'seed-{seed}' / name for seed in (0, 1) for name in ('unet', 'resunet')]
    assert len({(folder / 'split.json').read_bytes() for folder in folders}) == 1
    assert [read_run_config(folder).seed for folder in folders] == [0, 0, 1, 1]
    losses = [json.loads((folder / 'metrics.jsonl').read_text().splitlines()[0])['train/loss'] for folder in folders]
    assert len(set(losses)) == 4
    assert [(run['seed'], run['fold']) for run in comparison['runs']] == [(0, None), (1, None)]
    for name in ('unet', 'resunet'):
        both = [run['models'][name]['ssim'] for run in comparison['runs']]
        assert comparison['models'][name]['ssim'] == pytest.approx(sum(both) / 2)
    assert len(comparison['paired']['mean_by_seed']) == 2
    alone = json.loads((workdir / 'seed-1' / 'comparison.json').read_text())
    assert alone['models']['unet']['ssim'] == comparison['runs'][1]['models']['unet']['ssim']
    assert alone['paired']['mean'] == pytest.approx(comparison['paired']['mean_by_seed'][1])
    assert read_run_config(workdir / 'seed-1').compare.seeds == 1


def test_every_network_has_its_panel(seeds):
    workdir, text, comparison = seeds
    own = json.loads((workdir / 'seed-1' / 'unet' / 'evaluation' / 'test.json').read_text())
    assert {row['resolution'] for row in own['panel']} == {'network', 'native'}
    assert own['calibration'].keys() == {
        'bins',
        'ece',
        'brier',
        'nll',
        'temperature',
        'with_temperature',
        'rule',
        'in_liver',
    }
    assert 'THE HONEST PANEL' in text
    assert (workdir / 'figures' / 'reliability.png').stat().st_size > 10_000
    assert comparison['paired']['verdict'] in (workdir / 'comparison.md').read_text()
    assert 'seed-*/{unet,resunet}/checkpoints/' in text


def case_dice(folder, name):
    return {
        row['case']: row['dice'] for row in json.loads((folder / name / 'evaluation/test.json').read_text())['cases']
    }


def test_the_report_of_seeds_has_every_pair_and_the_pictures_of_the_first(seeds):
    workdir, _, comparison = seeds
    findings = gather(workdir)
    assert findings.results == comparison
    assert [pair.title for pair in findings.trained] == ['seed 0', 'seed 1']
    ends = [pair.histories['U-Net'][-1]['val/loss'] for pair in findings.trained]
    assert len(set(ends)) == 2
    shown = {findings.renamed.get(case.name, case.name): case.dice['ResU-Net'] for case in findings.cases}
    assert shown == case_dice(workdir / 'seed-0', 'resunet')
    page = make_page(findings, None)
    assert 'Shown: the networks of the first seed (0)' in page
    assert '--config.compare.seeds=2' in page
    assert html.escape(comparison['paired']['verdict'][1:]) in page
    assert page.count('<summary>Seed ') == 2
    for run in comparison['runs']:
        assert f'<td>{run["models"]["unet"]["dice_case"]:.4f}</td>' in page[page.index('Every pair on its own') :]


def test_the_report_needs_the_pairs_that_it_shows(seeds, tmp_path):
    shutil.copytree(seeds[0], tmp_path / 'run')
    shutil.rmtree(tmp_path / 'run' / 'seed-1' / 'resunet' / 'checkpoints')
    assert len(gather(tmp_path / 'run').trained) == 2  # the pictures are those of the first seed
    shutil.rmtree(tmp_path / 'run' / 'seed-0' / 'resunet')
    with pytest.raises(UserError, match=r'seed-0/resunet: no config\.json there'):
        gather(tmp_path / 'run')
    (tmp_path / 'run' / 'comparison.json').unlink()
    with pytest.raises(UserError, match='an unfinished comparison'):
        gather(tmp_path / 'run')


def test_more_seeds_leave_those_that_are_there(config, seeds, caplog, monkeypatch):
    workdir = seeds[0]
    monkeypatch.setattr('liver_jax.compare._draw', lambda *values: None)  # takes long and is seen above
    with caplog.at_level('INFO', 'liver_jax'):
        compare(small(config, compare_seeds=3), workdir, 100)
    assert caplog.text.count('already finished') == 4
    assert (workdir / 'seed-2' / 'resunet' / 'checkpoints').is_dir()
    assert len(json.loads((workdir / 'comparison.json').read_text())['paired']['mean_by_seed']) == 3


def without(run, folder, field, tmp_path):
    """A copy of a run whose config names a folder that is not there."""
    shutil.copytree(run, folder)
    values = json.loads((folder / 'config.json').read_text())
    values['data'][field] = str(tmp_path / 'gone')
    (folder / 'config.json').write_text(json.dumps(values))
    return folder


def test_without_the_volumes_a_line_says_what_is_missing(config, seeds, tmp_path):
    folder = without(seeds[0] / 'seed-0' / 'unet', tmp_path / 'run', 'raw', tmp_path)
    results = evaluate_run(folder, 'best', 'test', None)
    assert {(row['resolution'], row['slices']) for row in results['panel']} == {('network', 'tumor')}
    assert 'need the raw volumes, and data.raw' in results['panel_note']
    assert 'gone' in panel_text(results, 100)
    assert results['fitted']['min_mm3'] is None
    assert results['ceiling'] == {}


def test_other_volumes_need_the_slices_of_the_run_only_for_fitting(config, seeds, tmp_path):
    folder = without(seeds[0] / 'seed-0' / 'unet', tmp_path / 'run', 'store', tmp_path)
    with pytest.raises(UserError, match=r'the slice store of .* is not there'):
        evaluate_run(folder, 'best', 'test', None)
    results = evaluate_run(folder, 'best', 'test', Path(config.data.raw), keep_training_cases=True)
    assert results['fitted'] is None
    assert 'nothing is fitted to validation' in results['panel_note']
    assert {(row['resolution'], row['slices']) for row in results['panel']} == {
        (resolution, slices) for resolution in ('network', 'native') for slices in ('tumor', 'all')
    }


def test_a_folder_that_cannot_be_written_is_refused_before_an_hour_of_scoring(seeds, tmp_path):
    folder = shutil.copytree(seeds[0] / 'seed-0' / 'unet', tmp_path / 'run')
    shutil.rmtree(folder / 'evaluation')
    (folder / 'evaluation').touch()
    with pytest.raises(UserError, match=r'run/evaluation: cannot write there \(.*\); expected a folder to write to'):
        evaluate_run(folder, 'best', 'test', None)


def test_three_folds_test_every_patient_once(config, tmp_path, monkeypatch):
    workdir = tmp_path / 'run'
    monkeypatch.setattr('liver_jax.compare._draw', lambda *values: None)
    compare(small(config, compare_folds=3), workdir, 100)
    comparison = json.loads((workdir / 'comparison.json').read_text())
    tested = [
        {case['patient'] for case in json.loads((workdir / f'fold-{fold}' / 'split.json').read_text())['test']}
        for fold in range(3)
    ]
    assert sum(map(len, tested)) == len(set.union(*tested)) == 8
    assert {*comparison['paired']['differences'], *comparison['paired']['left_out']} == set.union(*tested)
    assert [run['fold'] for run in comparison['runs']] == [0, 1, 2]
    assert comparison['protocol']['certificate']['sentence'].count('fold ') == 3
    assert comparison['paired']['verdict'].startswith(
        ('no significant difference', 'U-Net', 'ResU-Net', 'no statement')
    )
    findings = gather(workdir)
    assert set(findings.patients) == set.union(*tested)
    for fold in range(3):
        expected = case_dice(workdir / f'fold-{fold}', 'unet')
        assert {case.name: case.dice['U-Net'] for case in findings.cases if case.name in expected} == expected
    page = make_page(findings, None)
    assert 'each patient as predicted by the networks of its own fold' in page
    assert '--config.compare.folds=3' in page
    with Checkpoints(workdir / 'fold-2' / 'unet' / 'checkpoints') as checkpoints:
        assert checkpoints.latest_step()


def test_the_plain_case_keeps_its_folders(config, tmp_path):
    ((pair,),) = plan_pairs(config, tmp_path)
    assert (pair.folder, list(pair.networks)) == (tmp_path, ['unet', 'resunet'])
    assert pair.networks['resunet'].seed == config.seed
    pairs = plan_pairs(small(config, compare_seeds=2, compare_folds=3), tmp_path)
    assert [[pair.folder.relative_to(tmp_path).as_posix() for pair in folds] for folds in pairs] == [
        ['fold-0/seed-0', 'fold-1/seed-0', 'fold-2/seed-0'],
        ['fold-0/seed-1', 'fold-1/seed-1', 'fold-2/seed-1'],
    ]
    assert {pair.config.compare.folds for folds in pairs for pair in folds} == {0}


def test_folds_of_two_kinds_are_refused(config):
    with pytest.raises(UserError, match=r'compare\.folds is 3; expected 0, as split\.folds chooses one fold'):
        small(config, compare_folds=3, split_folds=4)
    with pytest.raises(UserError, match=r'compare\.folds is 2; expected 0 \(none\) or 3 to 1000'):
        small(config, compare_folds=2)
