"""Several processes as one job: JAX's own distributed runtime, joined where the environment speaks of it.

All processes compute, process 0 alone writes. JAX is imported within: the command line imports this for any command.
"""

import ctypes
import itertools
import json
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from liver_jax.errors import UserError

Result = TypeVar('Result')
EXPLICIT = ('JAX_COORDINATOR_ADDRESS', 'JAX_NUM_PROCESSES', 'JAX_PROCESS_ID')
_SLURM = ('SLURM_JOB_ID', 'SLURM_STEP_NODELIST', 'SLURM_NTASKS', 'SLURM_PROCID', 'SLURM_LOCALID')
_OPEN_MPI = ('OMPI_MCA_orte_hnp_uri', 'OMPI_COMM_WORLD_SIZE')
_DEAD_AFTER = 20  # seconds without a heartbeat
_SHUTDOWN = 60  # seconds that a process which is done waits for the others
_TOGETHER = 5  # seconds within which all processes meet the same error
_AS_LONG_AS_IT_TAKES = 7 * 24 * 3600  # seconds; a process that dies meanwhile ends all by its missing heartbeat
_MESSAGE = 4096  # bytes


class _Job:
    """This process among those of the job."""

    index = 0
    count = 1
    safe_points = 0  # passed so far
    barriers = itertools.count()
    notify: Callable[[int], None] | None = None  # JAX's handler of SIGTERM


def initialise() -> None:
    """Join the other processes of the job, before anything is computed; where there are none, do nothing.

    The job is one of JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID, or of SLURM (srun) or Open MPI
    (mpirun), as JAX itself finds it. Other processes than the first log errors alone.

    Raises:
        UserError: variables that contradict each other, processes with unlike numbers of devices, no connection.
    """
    arguments = _job_of(os.environ)
    if arguments is None:
        return
    import jax

    libc = ctypes.CDLL(None)
    libc.signal.argtypes, libc.signal.restype = (ctypes.c_int, ctypes.c_void_p), ctypes.c_void_p
    ours = libc.signal(signal.SIGTERM, None)
    try:
        jax.distributed.initialize(
            **arguments, heartbeat_timeout_seconds=_DEAD_AFTER, shutdown_timeout_seconds=_SHUTDOWN
        )
    except RuntimeError as error:
        raise UserError(
            f'{_words(arguments)}: {error}; expected all processes to be started and able to meet'
        ) from error
    _Job.notify = _take_handler(libc, ours)
    _Job.index, _Job.count = jax.process_index(), jax.process_count()
    if not is_first():
        logging.getLogger('liver_jax').setLevel(logging.ERROR)
    if jax.device_count() != _Job.count * jax.local_device_count():
        raise UserError(
            f'process {_Job.index} has {jax.local_device_count()} of {jax.device_count()} devices; '
            f'expected the same number in each of the {_Job.count} processes'
        )


def is_first() -> bool:
    """Whether this is process 0, the one that writes."""
    return _Job.index == 0


def place() -> tuple[int, int]:
    """Number of this process, from 0, and how many there are."""
    return _Job.index, _Job.count


@contextmanager
def first_before_others() -> Iterator[None]:
    """The block runs in process 0 and then, once it is through, in the others, which find done what it does.

    An error of process 0 is raised in all: the others wait as long as it takes.
    """
    if _Job.count == 1:
        yield
    elif is_first():
        try:
            yield
        except BaseException as error:
            _share(error)
            raise
        _share(None)
    else:
        _share(None)
        yield


def on_first(work: Callable[[], Result]) -> Result | None:
    """What `work` gives in process 0, where alone it is done; None in the others, which wait for it."""
    with first_before_others():
        return work() if is_first() else None


def in_all(holds: bool) -> bool:
    """Whether something holds in all processes."""
    if _Job.count == 1:
        return holds
    import numpy as np
    from jax.experimental import multihost_utils

    return bool(np.all(multihost_utils.process_allgather(np.array(holds))))


def agreed(wish: int) -> int:
    """The greatest wish of all processes, where they have agreed to stop; else 0. A wish of 0 is none.

    Every process asks at the same points. JAX counts these and finds the next one that no process has passed.
    """
    import numpy as np
    from jax.experimental import multihost_utils

    if wish and _Job.notify:
        _Job.notify(signal.SIGTERM)  # as a scheduler does: JAX takes the notice to all processes
    _Job.safe_points += 1
    if not multihost_utils.reached_preemption_sync_point(_Job.safe_points):
        return 0
    return int(np.max(multihost_utils.process_allgather(np.array(wish))))


def end_together(why: str) -> bool:
    """Whether all processes end now for the same reason; of those that do not come within seconds, some go on."""
    if _Job.count == 1:
        return True
    try:
        _wait_for_all(why, _TOGETHER)
    except Exception:  # whatever JAX raises when the others do not come, or are gone
        return False
    return True


def _take_handler(libc: Any, ours: int | None) -> Callable[[int], None] | None:
    """JAX puts its handler of SIGTERM in the place of ours, from a thread of its own. Ours comes back, and calls JAX's
    to have all processes stop. None where JAX has none.
    """
    for _ in range(300):
        theirs = libc.signal(signal.SIGTERM, ours)
        if theirs != ours:
            return ctypes.CFUNCTYPE(None, ctypes.c_int)(theirs)
        time.sleep(0.01)
    return None


def _job_of(environment: Any) -> dict[str, Any] | None:
    """Arguments of `jax.distributed.initialize`; None for one process alone."""
    managed = [
        int(environment[count])
        for names, count in ((_SLURM, 'SLURM_NTASKS'), (_OPEN_MPI, 'OMPI_COMM_WORLD_SIZE'))
        if all(name in environment for name in names)
    ]
    given = [name for name in EXPLICIT if environment.get(name)]
    if not given or (managed and given == ['JAX_COORDINATOR_ADDRESS']):  # which JAX takes instead of its own choice
        return {} if max(managed, default=1) > 1 else None
    missing = [name for name in EXPLICIT if name not in given]
    if missing:
        raise UserError(f'{" and ".join(given)} without {" and ".join(missing)}; expected all three or none')
    address, count, index = (environment[name] for name in EXPLICIT)
    if not (count.isdecimal() and index.isdecimal() and int(index) < int(count)):
        raise UserError(
            f'JAX_PROCESS_ID={index}, JAX_NUM_PROCESSES={count}: expected numbers, the first from 0 to n - 1'
        )
    if not address.rpartition(':')[2].isdecimal() or ':' not in address:
        raise UserError(f'JAX_COORDINATOR_ADDRESS={address}: expected HOST:PORT of process 0, such as 10.0.0.1:8476')
    if int(count) == 1:
        return None
    return {
        'coordinator_address': address,
        'num_processes': int(count),
        'process_id': int(index),
        'cluster_detection_method': 'deactivate',
    }


def _words(arguments: dict[str, Any]) -> str:
    if not arguments:
        return 'the processes that the scheduler started'
    return f'process {arguments["process_id"]} of {arguments["num_processes"]} at {arguments["coordinator_address"]}'


def _share(error: BaseException | None) -> None:
    """Tell the others how it went in process 0, and what it has counted; in the others, raise what it raised."""
    import numpy as np
    from jax.experimental import multihost_utils

    # A collective of the devices would not wait that long.
    _wait_for_all(f'first-{next(_Job.barriers)}', _AS_LONG_AS_IT_TAKES)
    kind = type(error).__name__ if error else ''
    words = json.dumps([_Job.safe_points, kind, str(error)[: _MESSAGE // 8]]).encode()
    told = np.frombuffer(words.ljust(_MESSAGE), np.uint8)
    told = np.asarray(multihost_utils.broadcast_one_to_all(told), np.uint8)
    _Job.safe_points, kind, message = json.loads(told.tobytes())
    if kind and not is_first():
        from liver_jax.runtime import interrupt

        raise {'Interrupted': interrupt.Interrupted}.get(kind, UserError)(message or kind)


def _wait_for_all(name: str, seconds: int) -> None:
    from liver_jax.runtime.orbax_manager import wait_for_all  # which takes a second to import

    wait_for_all(name, seconds)
