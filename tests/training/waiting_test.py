"""The waiting of the devices, with times worked out by hand."""

from liver_jax.data.clock import Clock
from liver_jax.training.waiting import Waiting


def step(waiting, start, streaming, transferring, idle):
    there = start + streaming + transferring
    waiting.count(start, start + streaming, there, done=start if idle else there)


def test_the_part_of_the_time_that_passed_while_the_devices_were_idle():
    waiting = Waiting(Clock())
    for start in (0, 100, 200):  # two that compile, one to start from
        step(waiting, start, 50, 0, True)
    step(waiting, 255, 2, 1, True)  # 3 of the 8 seconds since 250
    assert waiting.percent() == 37.5
    step(waiting, 265, 2, 1, False)  # the devices were at work
    assert waiting.percent() == 0
    step(waiting, 275, 1, 0, True)  # 1 of 8
    step(waiting, 283, 1, 0, True)  # 1 of 8
    assert waiting.percent() == 12.5
    assert waiting.percent() == 0


def test_time_spent_on_something_else_is_not_counted():
    waiting = Waiting(Clock())
    for start in (0, 1, 2):
        step(waiting, start, 0, 0, True)
    waiting.restart()
    waiting.close()  # it has seen that
    step(waiting, 1000, 5, 5, True)
    assert waiting.percent() == 0
    step(waiting, 1010, 5, 5, True)
    assert waiting.percent() == 100


def train_epoch(waiting, start, steps, streaming, transferring):
    """Steps of 100 seconds each."""
    for number in range(steps):
        step(waiting, start + 100 * number, streaming, transferring, True)


def test_the_warning_names_the_slowest_stage_and_counts_anew():
    clock = Clock()
    waiting = Waiting(clock)
    train_epoch(waiting, 0, 30, 6, 1)
    clock.timed('draw', lambda x: x)(0)
    clock._seconds = {'draw': 7.0, 'gather': 6.0}
    assert waiting.warning().startswith("the devices waited for data 7 % of the time, most of it for 'draw'; more CPU")
    assert waiting.warning() is None


def test_the_transfer_is_named_when_it_held_up_more_than_the_stream():
    waiting = Waiting(Clock())
    train_epoch(waiting, 0, 30, 3, 4)
    assert "for 'transfer'" in waiting.warning()


def test_five_percent_is_not_too_much():
    waiting = Waiting(Clock())
    train_epoch(waiting, 0, 30, 5, 0)
    assert waiting.warning() is None


def test_few_steps_are_kept_until_there_are_enough_for_a_warning():
    waiting = Waiting(Clock())
    train_epoch(waiting, 0, 15, 50, 0)
    assert waiting.warning() is None
    train_epoch(waiting, 1500, 15, 50, 0)
    assert "50 % of the time, most of it for 'order'" in waiting.warning()
