"""Run a command in several processes of this host, one per GPU, as one job.

    python launch/local.py --processes=8 -- train --config=configs/unet.py --workdir=runs/unet

Each process gets the GPU of its number; on CPU (JAX_PLATFORMS=cpu) each has JAX_NUM_CPU_DEVICES of its own. What they
print comes with the number of the process before it; how they end is told last, and once where all say the same. The
first SIGINT or SIGTERM is passed on as SIGTERM, so that all save and stop; a second one kills. Once one process has
ended, the others have 20 seconds to end as well; what they meet for want of the failed one is left out.

Exit code: that of the process that failed first, 128 and the signal where one killed it; 75 when all were stopped and
have saved (the same command goes on); 0 when all are done.
"""

import argparse
import collections
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from types import FrameType
from typing import TextIO

GRACE_SECONDS = 20.0
LAST_LINES = 20
LOOK_SECONDS = 0.1


class Rank:
    """One process of the job; what it prints is passed on line by line, but how it ends is kept in `closing`."""

    def __init__(self, number: int, count: int, address: str, arguments: list[str], job: list['Rank']) -> None:
        environment = {
            'JAX_COORDINATOR_ADDRESS': address,
            'JAX_NUM_PROCESSES': str(count),
            'JAX_PROCESS_ID': str(number),
            'JAX_LOCAL_DEVICE_IDS': str(number),  # of the GPUs; CPUs are not counted
        }
        self.number, self.job, self.closing = number, job, ''
        self.last: collections.deque[str] = collections.deque(maxlen=LAST_LINES)
        self.process = subprocess.Popen(
            [sys.executable, '-m', 'liver_jax', *arguments],
            env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            errors='replace', start_new_session=True,  # Ctrl-C comes through us alone
        )  # fmt: skip
        streams = (self.process.stdout, sys.stdout), (self.process.stderr, sys.stderr)
        self._threads = [threading.Thread(target=self._pass_on, args=pair, daemon=True) for pair in streams]
        for thread in self._threads:
            thread.start()

    def _pass_on(self, source: TextIO, target: TextIO) -> None:
        looked = 0.0
        for line in source:
            if target is sys.stderr:
                self.last.append(line)
                if line.startswith('liver-jax: '):
                    self.closing = line
                    continue
                if time.monotonic() > looked + LOOK_SECONDS:
                    time.sleep(LOOK_SECONDS)  # its neighbours know sooner than we that a process is gone
                    looked = time.monotonic()
                if any(rank.failed for rank in self.job if rank is not self):
                    continue  # frames of JAX and gloo, which miss that process
            print(f'[{self.number}] {line}', end='', file=target, flush=True)

    @property
    def failed(self) -> bool:
        """Whether it has ended, and not because all was done."""
        return self.process.poll() not in (None, 0)

    def send(self, number: int) -> None:
        """Send a signal, if it still runs."""
        if self.process.poll() is None:
            self.process.send_signal(number)

    def finish(self) -> int:
        """Wait for its end and its last words; the exit code as a shell has it."""
        code = self.process.wait()
        for thread in self._threads:
            thread.join(timeout=1)
        return code if code >= 0 else 128 - code


def main() -> int:
    """Start the processes, wait for their end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--processes', type=int, required=True, help='how many, at most one per GPU')
    parser.add_argument('command', nargs='+', help='of liver-jax, with its flags, after a --')
    values = parser.parse_args()
    if values.processes < 1:
        parser.error(f'--processes={values.processes}: expected one or more')
    address = f'127.0.0.1:{free_port()}'
    ranks: list[Rank] = []
    asked: list[int] = []

    def stop(number: int, _: FrameType | None) -> None:
        asked.append(number)
        for rank in ranks:
            rank.send(signal.SIGTERM if len(asked) == 1 else signal.SIGKILL)

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    for number in range(values.processes):
        ranks.append(Rank(number, values.processes, address, values.command, ranks))
    return conclude(ranks, in_order_of_their_end(ranks), killed_by_us=len(asked) > 1)


def in_order_of_their_end(ranks: list[Rank]) -> list[Rank]:
    """All of them, once all have ended; those that stay behind are killed."""
    ended: list[Rank] = []
    limit = float('inf')
    while len(ended) < len(ranks):
        new = [rank for rank in ranks if rank not in ended and rank.process.poll() is not None]
        if new and not ended:
            limit = time.monotonic() + GRACE_SECONDS
        ended += new
        if time.monotonic() > limit:
            for rank in ranks:
                rank.send(signal.SIGKILL)
        time.sleep(LOOK_SECONDS)
    return ended


def conclude(ranks: list[Rank], ended: list[Rank], killed_by_us: bool) -> int:
    """The exit code of the job, and how it ended: what all say once, else the words of the one that failed first."""
    codes = {rank.number: rank.finish() for rank in ranks}
    first = next((rank for rank in ended if codes[rank.number]), ranks[0])
    code = codes[first.number]
    if first.process.returncode < 0 and not killed_by_us:
        number = -first.process.returncode
        hint = 'for lack of memory, or by hand' if number == signal.SIGKILL else signal.strsignal(number)
        print(f'process {first.number} was killed by signal {number} ({hint})', file=sys.stderr)
    elif set(codes.values()) != {code}:
        print(f'process {first.number} failed first, with code {code}; its last words:', file=sys.stderr)
        print(''.join(first.last) or '(none)', file=sys.stderr)
    else:
        told = dict.fromkeys(rank.closing for rank in ended if rank.closing)
        print(''.join(told), end='', file=sys.stderr)
    return code


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        return int(server.getsockname()[1])


if __name__ == '__main__':
    sys.exit(main())
