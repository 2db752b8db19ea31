"""Bytes that devices exchange, counted in programs written by hand and in a compiled one."""

import re

import jax
import jax.numpy as jnp

from liver_jax.bench.collectives import count_collectives
from liver_jax.runtime.mesh import batch_sharding, make_mesh, replicated

PROGRAM = """
HloModule jit_step
%add { ROOT %sum = f32[] add(f32[] %a, f32[] %b) }
ENTRY %main {
  %p = f32[3,3,1,16]{3,2,1,0} parameter(0)
  %all-reduce.1 = f32[3,3,1,16]{3,2,1,0} all-reduce(%p), replica_groups={{0,1}}, to_apply=%add
  %all-reduce.2 = (f32[16]{0}, bf16[4,5]{1,0}, f32[]) all-reduce(%x, %y, %z), to_apply=%add
  %gte = f32[16]{0} get-tuple-element(%all-reduce.2), index=0
  %start = f32[10]{0} all-reduce-start(%w), to_apply=%add
  %done = f32[10]{0} all-reduce-done(%start)
  ROOT %gather = s8[2,7]{1,0} all-gather(%v), dimensions={0}
}
"""


def test_each_message_is_counted_once_with_all_its_arrays():
    assert count_collectives(PROGRAM) == (4, 4 * 144 + (4 * 16 + 2 * 20 + 4) + 4 * 10 + 14)


def test_a_program_of_one_device_says_nothing():
    assert count_collectives('%a = f32[3]{0} add(f32[3]{0} %b, f32[3]{0} %c)') == (0, 0)


def test_the_sum_over_a_batch_on_four_devices_is_one_all_reduce_of_the_sum():
    mesh = make_mesh(4)
    step = jax.jit(lambda x: x.sum(0), in_shardings=batch_sharding(mesh), out_shardings=replicated(mesh))
    text = step.lower(jax.ShapeDtypeStruct((8, 5, 3), jnp.float32)).compile().as_text()
    assert re.search('all-reduce', text)
    assert count_collectives(text) == (1, 4 * 15)
