"""A watcher beside training: real processes, killed and started again; every checkpoint has its score once."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from liver_jax.errors import UserError
from liver_jax.evaluation.results import evaluate_run
from liver_jax.evaluation.watch import watch
from liver_jax.files import locked
from liver_jax.runtime import telemetry
from liver_jax.runtime.checkpoint import Checkpoints
from liver_jax.runtime.interrupt import RESUME_CODE
from liver_jax.runtime.telemetry import read_rows
from liver_jax.training.loop import train
from small_ct import command


def start(*arguments):
    """A watcher with one device; training here has eight."""
    environment = {**os.environ, 'JAX_NUM_CPU_DEVICES': '1'}
    program = [sys.executable, '-m', 'liver_jax', 'evaluate', '--watch', *arguments]
    return subprocess.Popen(program, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def lines_until(process, words):
    """The log of a process up to a line that holds these words."""
    seen = []
    for line in process.stderr:
        seen.append(line)
        if words in line:
            return seen
    raise AssertionError(''.join(seen))


def end(process, code=0):
    output, log = process.communicate(timeout=120)
    assert process.returncode == code, log
    assert 'Traceback' not in log
    return output, log


def scored(workdir, part='val'):
    return read_rows(workdir / 'evaluation' / f'watch_{part}.jsonl')


def shown(workdir, part='val'):
    """Step by step the scores in TensorBoard, by the files that it reads."""
    files = sorted((workdir / 'tensorboard' / f'watch_{part}').glob('events*'))
    found = [event for file in files for _, event in telemetry._events(file.read_bytes()) if event.summary.value]
    return [(event.step, {value.tag: value.simple_value for value in event.summary.value}) for event in found]


def others(workdir):
    """Every file that is not the watcher's, with the time it was last written."""
    return sorted(
        (path, path.stat().st_mtime_ns)
        for path in workdir.rglob('*')
        if path.is_file() and not any('watch_' in part for part in path.parts) and path.name != 'val.json'
    )


@pytest.fixture(scope='module')
def finished(config, tmp_path_factory):
    return train(config, tmp_path_factory.mktemp('runs') / 'run')


@pytest.fixture
def run(finished, tmp_path):
    """A finished run of 12 steps; its checkpoints, the newest two and the best, have not been scored."""
    return Path(shutil.copytree(finished, tmp_path / 'run'))


def test_beside_training_killed_and_started_again(config, tmp_path):
    workdir = tmp_path / 'run'
    watcher = start(f'--workdir={workdir}')  # before there is anything
    lines_until(watcher, 'no checkpoints there yet; waiting')
    training = subprocess.Popen(command('train', config, workdir), stderr=subprocess.PIPE, text=True)
    lines_until(training, 'epoch 2 of 3')
    training.send_signal(signal.SIGTERM)  # it will be resumed: for the watcher this is no end
    training.communicate()
    assert training.returncode == RESUME_CODE
    lines_until(watcher, ': val loss ')
    watcher.kill()
    watcher.communicate()
    before = scored(workdir)
    assert before
    watcher = start(f'--workdir={workdir}')
    lines_until(watcher, 'watching its checkpoints')
    train(config, workdir)
    output, _ = end(watcher)
    rows = scored(workdir)
    steps = [row['step'] for row in rows]
    assert output == f'scores of {len(rows)} checkpoints of {workdir}: {workdir}/evaluation/watch_val.jsonl\n'
    assert rows[: len(before)] == before
    assert sorted(set(steps)) == steps  # each once
    assert steps[-1] == 12
    assert [step for step, _ in shown(workdir)] == steps


def test_scores_are_those_of_evaluate_on_any_devices_and_nothing_else_is_written(run):
    before = others(run)
    end(start(f'--workdir={run}'))
    assert others(run) == before
    rows = scored(run)
    with Checkpoints(run / 'checkpoints', read_only=True) as checkpoints:
        assert [row['step'] for row in rows] == checkpoints.steps()
    last = rows[-1]
    expected = evaluate_run(run, str(last['step']), 'val', None)['summary']
    for name, value in expected.items():
        assert last.get(f'val/{name}', pytest.approx(float('nan'), nan_ok=True)) == pytest.approx(
            value, abs=1e-5, nan_ok=True
        )
    (step, tags) = shown(run)[-1]
    assert step == last['step']
    assert tags == {name: pytest.approx(value) for name, value in last.items() if name != 'step'}


def test_what_was_scored_is_not_scored_again(run, caplog):
    watch(run, 'val')
    rows, events_before = scored(run), shown(run)
    with caplog.at_level('INFO', 'liver_jax'):
        watch(run, 'val')
    assert 'val loss' not in caplog.text
    assert scored(run) == rows
    assert shown(run) == events_before
    watch(run, 'test')
    assert [row['step'] for row in scored(run, 'test')] == [row['step'] for row in rows]
    assert 'test/dice_image' in scored(run, 'test')[0]


def test_a_row_without_its_event_and_half_a_row_are_made_good(run):
    watch(run, 'val')
    rows, seen = scored(run), shown(run)
    (events_file,) = (run / 'tensorboard' / 'watch_val').glob('events*')
    events_file.write_bytes(events_file.read_bytes()[:-5])  # killed while the last event was written
    with open(run / 'evaluation' / 'watch_val.jsonl', 'a') as file:
        file.write('{"step": 99, "val/lo')
    watch(run, 'val')
    assert scored(run) == rows
    torn, _ = sorted((run / 'tensorboard' / 'watch_val').glob('events*'))
    torn.unlink()  # a reader stops where it is torn, and goes on with the next
    assert shown(run) == [seen[-1]]


def test_a_checkpoint_that_goes_away_is_passed_over(run, monkeypatch, caplog):
    restore = Checkpoints.restore_model

    def removed_meanwhile(self, step, like):
        if step == 8:
            shutil.rmtree(run / 'checkpoints' / '8')
        return restore(self, step, like)

    monkeypatch.setattr(Checkpoints, 'restore_model', removed_meanwhile)
    watch(run, 'val')
    assert 'step 8: removed by training before it was scored' in caplog.text
    assert [row['step'] for row in scored(run)][-1] == 12
    assert 8 not in [row['step'] for row in scored(run)]


@pytest.mark.parametrize(('every', 'gone'), [(0, '4, 8'), (3, '3, 4, 6, 8, 9')])
def test_checkpoints_that_came_and_went_between_two_looks_are_named_once(run, caplog, every, gone):
    told = json.loads((run / 'config.json').read_text())
    told['train']['save_every_steps'] = every
    (run / 'config.json').write_text(json.dumps(told))
    shutil.rmtree(run / 'checkpoints' / '4', ignore_errors=True)
    shutil.rmtree(run / 'checkpoints' / '8')
    for _ in range(2):
        watch(run, 'val')
    assert caplog.text.count(f'step {gone}: removed by training before it was scored') == 1
    assert [row['step'] for row in scored(run)] == [12]
    assert 'no checkpoints there yet' not in caplog.text


def test_a_checkpoint_that_is_just_being_removed_is_not_called_damaged(run, monkeypatch, caplog):
    shutil.rmtree(run / 'checkpoints' / '8' / 'model')
    monkeypatch.setattr(time, 'sleep', lambda _: shutil.rmtree(run / 'checkpoints' / '8'))
    watch(run, 'val')
    assert 'step 8: removed by training before it was scored' in caplog.text
    assert 'damaged' not in caplog.text


def test_a_damaged_checkpoint_has_no_score_and_the_others_have(run, caplog):
    shutil.rmtree(run / 'checkpoints' / '8' / 'model')
    watch(run, 'val')
    assert 'step 8: damaged (model cannot be read), no score' in caplog.text
    assert [row['step'] for row in scored(run)][-1] == 12


def test_a_signal_ends_it_with_the_code_to_go_on(run):
    shutil.rmtree(run / 'checkpoints' / '12')  # as of a run that still goes on
    watcher = start(f'--workdir={run}')
    lines_until(watcher, 'step 8: val loss')
    watcher.send_signal(signal.SIGTERM)
    _, log = end(watcher, RESUME_CODE)
    assert 'start the same command again' in log


def test_a_run_that_met_a_nan_has_ended(run, caplog):
    shutil.rmtree(run / 'checkpoints' / '12')
    (run / 'flight-11').mkdir()
    (run / 'flight-11' / 'record.json').touch()
    watch(run, 'val')
    assert f'liver-jax replay {run}/flight-11' in caplog.text
    assert [row['step'] for row in scored(run)][-1] == 8


def test_a_second_watcher_is_refused(run):
    with locked(run / 'tensorboard' / 'watch_val'), pytest.raises(UserError, match=f'process {os.getpid()} on '):
        watch(run, 'val')


def test_flags_of_other_uses_are_refused(tmp_path):
    _, log = end(start(f'--workdir={tmp_path}', '--checkpoint=latest'), 2)
    assert '--checkpoint does not go with --watch' in log


def test_a_store_that_moved_is_found_by_its_flag(run, config, tmp_path):
    told = json.loads((run / 'config.json').read_text())
    told['data']['store'] = str(tmp_path / 'gone')
    (run / 'config.json').write_text(json.dumps(told))
    for score in (lambda: watch(run, 'val'), lambda: evaluate_run(run, 'best', 'val', None)):
        with pytest.raises(UserError, match=f'{tmp_path}/gone: the slice store of {run} is not there.*--store$'):
            score()
    watch(run, 'val', config.data.store)
    assert [row['step'] for row in scored(run)][-1] == 12
    assert evaluate_run(run, 'best', 'val', None, moved_store=config.data.store)['summary']
