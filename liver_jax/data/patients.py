"""Whose scans they are, where neither a table nor the header tells: from the anatomy."""

from collections.abc import Sequence
from pathlib import Path

from liver_jax.data.layouts import Case
from liver_jax.data.signature import SAME, Likeness, group, look_alikes
from liver_jax.data.store import read_signature


def patients_of(
    cases: Sequence[Case], contents: Sequence[str], parts: Sequence[Path], source: str
) -> tuple[list[str], str]:
    """The patient of each case, and `source` with what was found; the anatomy is asked only where `patient` is empty.

    A patient found so is called by the name of their first case.
    """
    if all(case.patient for case in cases):
        return [case.patient for case in cases], source
    pairs = look_alikes([read_signature(part) for part in parts], contents)
    owners = group(len(cases), pairs)
    return [cases[owner].name for owner in owners], f'{source} ({describe_likeness([c.name for c in cases], pairs)})'


def describe_likeness(names: Sequence[str], pairs: Sequence[Likeness]) -> str:
    """Who was found to be whom, how sure, in words."""
    same = [_pair(names, pair) for pair in pairs if pair.similarity >= SAME]
    perhaps = [_pair(names, pair) for pair in pairs if pair.similarity < SAME]
    words = [f'one patient: {", ".join(same)}' if same else 'no two alike']
    return '; '.join(words + ([f'perhaps, but taken as two: {", ".join(perhaps)}'] if perhaps else []))


def _pair(names: Sequence[str], pair: Likeness) -> str:
    return f'{names[pair.first]} and {names[pair.second]} (similarity {pair.similarity:.2f})'
