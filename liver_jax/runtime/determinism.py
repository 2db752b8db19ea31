"""The same bits in every run on the same hardware (`train.deterministic`).

On CPU they are anyway. On GPUs XLA times several kernels for a convolution or product and keeps the quickest, which may
be another one the next time, and some kernels add in whatever order threads finish. `xla_gpu_deterministic_ops`, which
includes `xla_gpu_exclude_nondeterministic_ops`, rules out both: nothing is timed, and an operation that has no
deterministic kernel is an error. (Nothing of ours is: see `max_pool`.) Precision stays as it is; TF32 is deterministic.
"""

import os

import jax

from liver_jax.errors import UserError

FLAG = '--xla_gpu_deterministic_ops=true'


def request_determinism() -> None:
    """Ask XLA for it; to be called before JAX uses a device, for XLA reads its flags once."""
    if not _requested():
        os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} {FLAG}'.strip()


def check_determinism() -> None:
    """Raise UserError where GPUs are used and nobody asked before they were."""
    if jax.default_backend() == 'gpu' and not _requested():
        raise UserError(
            f'config field train.deterministic is True; expected {FLAG} in XLA_FLAGS before JAX started, '
            'as `liver-jax train` and `compare` see to; set it in the environment'
        )


def _requested() -> bool:
    name = FLAG.partition('=')[0]
    named = [flag for flag in os.environ.get('XLA_FLAGS', '').split() if flag.partition('=')[0] == name]
    return named[-1:] == [FLAG]  # XLA takes the last of several
