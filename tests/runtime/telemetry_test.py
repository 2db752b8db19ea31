"""Rows and TensorBoard events: what is logged can be read, what lies beyond a resumed step is dropped."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboardX.proto.event_pb2 import SessionLog

from event_files import events, scalars
from liver_jax.runtime.telemetry import Telemetry, read_history


def log(workdir: Path, start: int, *steps: int, loss: float = 0.5) -> None:
    with Telemetry(workdir, start) as telemetry:
        for step in steps:
            telemetry.scalars(step, {'train/loss': loss})


def test_scalars_go_to_rows_and_to_tensorboard(tmp_path):
    with Telemetry(tmp_path, 0) as telemetry:
        telemetry.scalars(10, {'train/loss': 0.25, 'train/seconds': np.float32(2)})
        telemetry.scalars(20, {'val/dice': 0.125})
    assert read_history(tmp_path) == [
        {'step': 10, 'train/loss': 0.25, 'train/seconds': 2.0},
        {'step': 20, 'val/dice': 0.125},
    ]
    assert scalars(tmp_path) == [(10, 'train/loss', 0.25), (10, 'train/seconds', 2.0), (20, 'val/dice', 0.125)]


def test_undefined_numbers_are_left_out_and_the_rows_are_strict_json(tmp_path):
    with Telemetry(tmp_path, 0) as telemetry:
        telemetry.scalars(1, {'a': float('nan'), 'b': 1.0, 'c': float('inf')})
        telemetry.scalars(2, {'a': float('nan')})
    lines = (tmp_path / 'metrics.jsonl').read_text().splitlines()
    rows = [json.loads(line, parse_constant=pytest.fail) for line in lines]
    assert rows == [{'step': 1, 'b': 1.0}, {'step': 2}]
    assert scalars(tmp_path) == [(1, 'b', 1.0)]


def test_a_row_can_be_read_while_the_run_goes_on(tmp_path):
    with Telemetry(tmp_path, 0) as telemetry:
        telemetry.scalars(1, {'loss': 0.5})
        assert read_history(tmp_path) == [{'step': 1, 'loss': 0.5}]


def test_pictures_go_to_tensorboard_pixel_by_pixel(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    with Telemetry(tmp_path, 0) as telemetry:
        telemetry.image(3, 'val/overlay', picture)
    (value,) = (value for file in events(tmp_path) for event in file for value in event.summary.value)
    assert value.tag == 'val/overlay'
    assert (value.image.height, value.image.width) == (5, 7)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(value.image.encoded_image_string))), picture)


def test_a_new_run_starts_empty(tmp_path):
    assert read_history(tmp_path) == []
    log(tmp_path, 0)
    assert read_history(tmp_path) == []


def test_rows_beyond_the_step_a_run_goes_on_from_are_dropped(tmp_path):
    log(tmp_path, 0, 10, 20, 30, loss=1.0)
    log(tmp_path, 20, 30, 40, loss=2.0)
    assert [(row['step'], row['train/loss']) for row in read_history(tmp_path)] == [(10, 1), (20, 1), (30, 2), (40, 2)]


def test_tensorboard_has_every_step_once_and_a_running_one_is_told_to_drop_the_same(tmp_path):
    log(tmp_path, 0, 10, 20, 30, loss=1.0)
    log(tmp_path, 20, 30, 40, loss=2.0)
    first, second = events(tmp_path)  # two files, though opened within a second
    assert [event.step for event in first if event.summary.value] == [10, 20]
    starts = [event.step for event in second if event.session_log.status == SessionLog.START]
    assert starts == [21]  # whatever has this step or more
    assert scalars(tmp_path)[-2:] == [(30, 'train/loss', 2.0), (40, 'train/loss', 2.0)]


@pytest.mark.parametrize(('validated', 'kept'), [(True, 2), (False, 1)])
def test_a_validation_that_the_checkpoint_does_not_know_of_is_dropped(tmp_path, validated, kept):
    with Telemetry(tmp_path, 0) as telemetry:
        telemetry.scalars(20, {'train/loss': 1.0})
        telemetry.scalars(20, {'val/dice': 0.5})
        telemetry.image(20, 'val/overlay', np.zeros((2, 2, 3), np.uint8))
    with Telemetry(tmp_path, 20, validated):
        assert len(read_history(tmp_path)) == len(scalars(tmp_path)) == kept
        values = [value for file in events(tmp_path) for event in file for value in event.summary.value]
        assert len(values) == kept + validated  # and the picture


def test_what_another_job_writes_beside_it_is_left_alone(tmp_path):
    other = tmp_path / 'tensorboard' / 'events.out.tfevents.1.watch'
    other.parent.mkdir()
    other.write_bytes(b'theirs')
    log(tmp_path, 0, 10)
    assert other.read_bytes() == b'theirs'


@pytest.mark.parametrize('end', [b'\x00' * 40, b'\x10', b'\xff' * 9], ids=['zeros', 'one byte', 'nonsense'])
def test_the_torn_end_of_a_file_of_tensorboard_is_dropped(tmp_path, end):
    log(tmp_path, 0, 10, 20)
    (file,) = (tmp_path / 'tensorboard').iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole + end)
    log(tmp_path, 20)
    assert file.read_bytes() == whole
    file.write_bytes(whole[:-5])
    log(tmp_path, 20)
    assert whole.startswith(file.read_bytes())
    assert scalars(tmp_path) == [(10, 'train/loss', 0.5)]


def test_every_row_is_with_the_system_before_the_next_step(tmp_path):
    """A killed process flushes nothing."""
    with Telemetry(tmp_path, 0) as telemetry:
        for step in (10, 20):
            telemetry.scalars(step, {'loss': 0.5})
            assert read_history(tmp_path)[-1]['step'] == scalars(tmp_path)[-1][0] == step


@pytest.mark.parametrize('torn', ['{"step": 30, "train/lo', '{"step": 30', '{', '\x00\x00\x00'])
def test_a_torn_last_line_is_dropped(tmp_path, torn):
    log(tmp_path, 0, 10, 20)
    with open(tmp_path / 'metrics.jsonl', 'a') as file:
        file.write(torn)
    assert [row['step'] for row in read_history(tmp_path)] == [10, 20]
    log(tmp_path, 20, 30)
    lines = (tmp_path / 'metrics.jsonl').read_text().splitlines()
    assert [json.loads(line)['step'] for line in lines] == [10, 20, 30]
