"""What a run shows: rows by hand, and the bar in a real terminal of several widths."""

import dataclasses
import fcntl
import json
import os
import struct
import termios

import pytest

from liver_jax.runtime.mesh import make_mesh
from liver_jax.runtime.telemetry import Telemetry, read_history
from liver_jax.training import display as display_module
from liver_jax.training.display import Display
from liver_jax.training.meter import Meter

NUMBERS = {'loss': 0.5, 'learning_rate': 1e-3, 'gradient_norm': 0.25, 'update_norm': 0.0625}


class Steady(Meter):
    """A run in which a step takes a tenth of a second."""

    def row(self):
        self.seconds = 0.1
        return NUMBERS


class Device:
    """A GPU as JAX describes it; there is none where tests run."""

    device_kind = 'NVIDIA A100-SXM4-40GB'

    def memory_stats(self):
        return {'peak_bytes_in_use': 12_300_000_000}


@dataclasses.dataclass
class Mesh:
    """Two of them."""

    devices = type('Devices', (), {'flat': [Device(), Device()]})
    local_devices = (Device(), Device())
    size = 2


def show(config, workdir, step, mesh):
    """The row of a run of 3 epochs of 40 steps at `step`, the last validation having taken 5 s."""
    with Telemetry(workdir, 0) as telemetry, Display(config, telemetry, step, 40, mesh) as display:
        display.validated(5.0)
        display.row(step, Steady([]), 7.0)
        display.advance()
    return read_history(workdir)[-1]


def test_a_row_by_hand(config, tmp_path):
    row = show(config, tmp_path, 70, make_mesh(8))
    assert row == {
        'step': 70,
        **{f'train/{name}': value for name, value in NUMBERS.items()},
        'pace/slices_per_second_per_device': 10.0,  # 8 slices in a tenth of a second on 8 devices
        'pace/seconds_to_evaluation': pytest.approx(1.0),  # the 10 steps to 80
        'pace/seconds_to_end': pytest.approx(5.0 + 2 * 5.0),  # 50 steps, and the validations at 80 and 120
        'pace/data_wait_percent': 7.0,
    }  # of a CPU neither memory nor peak is known: left out


@pytest.mark.parametrize(('step', 'validations'), [(1, 3), (79, 2), (80, 2), (81, 1), (120, 1)])
def test_the_validations_to_come_are_counted(config, tmp_path, step, validations):
    expected = (120 - step) * 0.1 + validations * 5
    assert show(config, tmp_path, step, make_mesh(8))['pace/seconds_to_end'] == pytest.approx(expected)


def test_memory_and_utilisation_of_a_known_device(config, tmp_path, monkeypatch):
    # At 156 TFLOP/s (TF32) and 3 times 2 GFLOP a slice the peak is 26,000 slices a second; a device does 8 / 2 / 0.1.
    monkeypatch.setattr('liver_jax.training.peaks.describe_model', lambda *_: {'gflops': 2.0})
    row = show(config, tmp_path, 70, Mesh())
    assert row['pace/peak_memory_gb'] == 12.3
    assert row['pace/model_flop_utilisation_percent'] == pytest.approx(100 * 40 / 26_000)


@pytest.mark.parametrize('columns', [0, 40, 60, 80, 120, 200])
def test_the_bar_fits_the_terminal(config, tmp_path, monkeypatch, columns):
    monkeypatch.delenv('COLUMNS', raising=False)
    monkeypatch.setattr('liver_jax.training.peaks.describe_model', lambda *_: {'gflops': 2.0})
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack('HHHH', 24, columns, 0, 0))
    with os.fdopen(slave, 'w') as terminal:
        monkeypatch.setattr(display_module.sys, 'stderr', terminal)
        show(config, tmp_path, 70, Mesh())
        terminal.flush()
        shown = b''
        while not shown.endswith(b'\n'):  # a terminal gives what was written piece by piece
            shown += os.read(master, 100_000)
    lines = shown.decode().replace('\n', '\r').split('\r')
    os.close(master)
    columns = columns or 80  # terminals that do not know their width say 0
    last = [line for line in lines if line.strip()][-1].rstrip()
    assert max(map(len, lines)) <= columns
    assert last.startswith('U-Net  59%|')
    assert '71/120' in last
    words = [
        'loss 0.5000', 'end in 00:15', 'eval in 00:01', '40 slices/s', 'data wait 7 %', 'rate 1.0e-03', 'gradient 0.25',
        'update 0.062', '12.3 GB', 'MFU 0 %',
    ]  # fmt: skip
    shown = last.split(', ')[1:]
    assert shown == words[: len(shown)]
    assert len(shown) == {40: 0, 60: 2, 80: 3, 120: 6, 200: 10}[columns]


def test_what_is_no_terminal_gets_no_bar(config, tmp_path, capfd):
    show(config, tmp_path, 70, make_mesh(8))
    assert capfd.readouterr().err == ''
    assert json.loads((tmp_path / 'metrics.jsonl').read_text())['step'] == 70
