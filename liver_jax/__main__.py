"""`python -m liver_jax COMMAND` is `liver-jax COMMAND`; both begin here, so that a signal is told in a line at once."""

import os
import signal
from typing import NoReturn


def _leave(number: int, _: object) -> NoReturn:
    """Nothing has begun. Code and words are those of `runtime.interrupt`, which takes over once it is imported."""
    os.write(2, f'liver-jax: stopped by {signal.Signals(number).name}; start the same command again\n'.encode())
    os._exit(75)


for _number in (signal.SIGINT, signal.SIGTERM):
    if signal.getsignal(_number) != signal.SIG_IGN:  # as a shell has it for what it runs in the background
        signal.signal(_number, _leave)

from liver_jax.cli import main  # noqa: E402 (takes a while)

if __name__ == '__main__':
    main()
