"""Real signals, to this very process where it has something to save, else to one of their own."""

import os
import select
import signal
import subprocess
import sys
import threading
import time

import pytest

from liver_jax.runtime.interrupt import RESUME_CODE, Interrupted, StopRequest, Wish, unwinding, watch_signals

# The main thread is in C and never comes back to Python: as when XLA compiles.
BUSY = """
import ctypes, sys
from liver_jax.runtime.interrupt import watch_signals

with watch_signals() as stop:
    if sys.argv[1] == 'holding':
        stop.hold()
    print('ready', flush=True)
    ctypes.CDLL(None).sleep(60)
    while True:
        ctypes.CDLL(None).sleep(60)
"""


def arrives(stop: StopRequest) -> bool:
    """Whether the thread that watches tells of a signal within a while."""
    deadline = time.monotonic() + 10
    while not stop.requested and time.monotonic() < deadline:
        select.select([], [], [], 0.001)
    return stop.requested


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_asks_for_a_stop_and_the_handlers_return(number):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), threading.active_count()
    with watch_signals() as stop:
        stop.hold()
        assert stop.reached() == Wish.GO_ON
        os.kill(os.getpid(), number)
        assert arrives(stop)
        assert stop.reached() == Wish.INTERRUPT
        with pytest.raises(Interrupted):
            stop.release()
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), threading.active_count()) == before


@pytest.mark.parametrize(
    ('state', 'numbers', 'code', 'said'),
    [
        ('idle', [signal.SIGINT], RESUME_CODE, 'stopped by SIGINT; start the same command again'),
        ('idle', [signal.SIGTERM], RESUME_CODE, 'stopped by SIGTERM; start the same command again'),
        ('holding', [signal.SIGINT, signal.SIGINT], 130, 'stopped at once; what was saved before is whole'),
        ('holding', [signal.SIGTERM, signal.SIGINT], 130, 'stopped at once; what was saved before is whole'),
    ],
)
def test_a_process_in_c_code_is_stopped_at_once(state, numbers, code, said):
    with subprocess.Popen(
        [sys.executable, '-c', BUSY, state], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == 'ready\n'
        for number in numbers[:-1]:
            process.send_signal(number)
            assert 'saving and stopping; again to stop at once' in process.stderr.readline()
        process.send_signal(numbers[-1])
        assert process.stderr.read() == f'liver-jax: {said}\n'
    assert process.returncode == code


def test_a_stop_file_ends_the_run_and_is_removed(tmp_path):
    stop = StopRequest(tmp_path / 'stop')
    (tmp_path / 'stop').touch()
    assert stop.reached() == Wish.END
    stop.obeyed()
    assert not (tmp_path / 'stop').exists()
    assert stop.reached() == Wish.END  # once asked for, it stays so
    assert str(tmp_path / 'stop') in stop.reason
    assert StopRequest(tmp_path / 'stop').reached() == Wish.GO_ON


def test_a_budget_ends_the_run_and_leaves_a_stop_file_alone(tmp_path):
    assert StopRequest(hours=1).reached() == Wish.GO_ON
    stop = StopRequest(tmp_path / 'stop', hours=1e-12)
    assert stop.reached() == Wish.END
    assert stop.reason == 'train.max_hours=1e-12 are over'
    (tmp_path / 'stop').touch()
    stop.obeyed()
    assert (tmp_path / 'stop').exists()
    assert StopRequest(hours=0).reached() == Wish.GO_ON


# The command as it is, which signals itself while it reads its code.
EARLY = """
import os, runpy, signal, sys
number = int(sys.argv.pop(1))
signal.signal(number, signal.SIG_DFL)  # whatever started the tests may ignore it
sys.addaudithook(lambda event, args: event == 'import' and args[0] == 'liver_jax.cli' and os.kill(os.getpid(), number))
runpy.run_module('liver_jax', run_name='__main__')
"""


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_anything_has_begun_is_told_in_a_line(number):
    done = subprocess.run([sys.executable, '-c', EARLY, str(int(number)), '--version'], capture_output=True, text=True)
    said = f'liver-jax: stopped by {number.name}; start the same command again\n'
    assert (done.returncode, done.stdout, done.stderr) == (RESUME_CODE, '', said)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_work_that_has_processes_is_unwound(number):
    with watch_signals() as stop:
        with pytest.raises(Interrupted, match='what is finished is kept'), unwinding():
            signal.raise_signal(number)
        assert not stop.requested
        stop.hold()
        os.kill(os.getpid(), number)
        assert arrives(stop)  # again
