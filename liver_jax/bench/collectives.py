"""What devices say to each other in a step, as its compiled program has it."""

import math
import re

_BITS = {'pred': 8, 'bf16': 16}  # other types end in theirs: f32, s8, u64
_OPERATION = re.compile(
    r'= (?P<result>\S.*?) (?P<kind>all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(-start)?\('
)
_ARRAY = re.compile(r'\b([a-z]+\d*)\[([\d,]*)\]')


def count_collectives(program: str) -> tuple[int, int]:
    """How many there are in a program in XLA's HLO text, and the bytes of their results.

    Several arrays that are reduced together are one of them.
    """
    results = [match['result'] for match in _OPERATION.finditer(program)]
    return len(results), sum(map(_bytes, results))


def _bytes(result: str) -> int:
    """Of an array f32[3,3,16]{…}, or of a tuple of arrays."""
    arrays = ((_bits(dtype), map(int, filter(None, sides.split(',')))) for dtype, sides in _ARRAY.findall(result))
    return sum(bits * math.prod(sides) for bits, sides in arrays) // 8


def _bits(dtype: str) -> int:
    return _BITS.get(dtype) or int(re.sub(r'\D', '', dtype))
