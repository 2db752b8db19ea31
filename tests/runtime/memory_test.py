"""The working memory of a compiled program is fetched from the kernel once, in a real process."""

import subprocess
import sys

PROGRAM = """
import resource
from liver_jax.runtime.memory import keep_freed_memory
if {keep}:
    keep_freed_memory()
import jax, jax.numpy as jnp
step = jax.jit(lambda x: jnp.abs(x) @ x[0])
x = jnp.ones((8192, 2048))  # 64 MiB, and as many of its absolute values: more than arenas of threads hold
step(x).block_until_ready()

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    step(x).block_until_ready()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(min(faults() for _ in range(12)))
"""
BLOCK = 8192 * 2048 * 4 // 4096  # pages


def page_faults(keep):
    """Of the call with the fewest: where the block of a call lands next to others, the heap grows once more."""
    done = subprocess.run([sys.executable, '-c', PROGRAM.format(keep=keep)], check=True, capture_output=True, text=True)
    return int(done.stdout)


def test_memory_of_a_step_is_not_fetched_again():
    assert page_faults(keep=True) < BLOCK // 10


def test_without_it_is():
    assert page_faults(keep=False) >= BLOCK
