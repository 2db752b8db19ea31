"""Which slices train, validate and test: by patient, or by slice as the original study did (which leaks).

A split is a file in the run folder; both networks of a comparison read the same one.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from liver_jax.config import SplitConfig
from liver_jax.data.store import SliceStore
from liver_jax.errors import UserError
from liver_jax.files import write_atomically

PARTS = ('train', 'val', 'test')
SLICE_WARNING = (
    'split by slice: neighbouring slices of one patient lie on both sides, '
    'so these scores say little about new patients'
)


@dataclasses.dataclass(frozen=True)
class Split:
    """Rows of the store per part, ascending; `settings` as in `SplitConfig`, `store` the digest of the store."""

    settings: dict[str, Any]
    store: str
    rows: dict[str, np.ndarray]

    @property
    def warning(self) -> str:
        """What every table and picture must say; empty for a split by patient."""
        return SLICE_WARNING if self.settings['by'] == 'slice' else ''

    def counts(self, store: SliceStore) -> dict[str, dict[str, int]]:
        """Patients, cases and slices in each part."""
        return {
            part: {
                'patients': len({store.rows[row].patient for row in rows}),
                'cases': len({store.rows[row].case for row in rows}),
                'slices': len(rows),
            }
            for part, rows in self.rows.items()
        }


def make_split(store: SliceStore, config: SplitConfig) -> Split:
    """Shuffle patients (or slices) by the seed and cut them by the fractions, at least one in each part.

    Raises:
        UserError: fewer patients (or slices) than parts.
    """
    if config.by == 'patient':
        units = sorted({row.patient for row in store.rows})
        unit_of = {patient: number for number, patient in enumerate(units)}
        owner = np.array([unit_of[row.patient] for row in store.rows])
    else:
        owner = np.arange(len(store))
    count = int(owner.max(initial=-1)) + 1
    if count < len(PARTS):
        raise UserError(
            f'{store.path}: slices of {count} {config.by}s; expected at least {len(PARTS)} for train, val and test; '
            "add volumes, or set split.by='slice' and mind its warning"
        )
    order = np.random.default_rng(config.seed).permutation(count)
    sizes = _sizes(count, config.fractions)
    cuts = np.split(order, np.cumsum(sizes)[:-1])
    rows = {part: np.flatnonzero(np.isin(owner, cut)) for part, cut in zip(PARTS, cuts, strict=True)}
    return Split(_plain(config), store.digest, rows)


def write_split(path: Path, split: Split, store: SliceStore) -> None:
    """Write the split as JSON: per part, case by case, patient and slices."""
    parts = {
        part: [
            {'case': case, 'patient': store.rows[rows[0]].patient, 'slices': [store.rows[row].index for row in rows]}
            for case, rows in _by_case(store, split.rows[part]).items()
        ]
        for part in PARTS
    }
    lines = ',\n'.join(
        f'  "{part}": [\n' + ',\n'.join('    ' + json.dumps(case) for case in cases) + '\n  ]'
        for part, cases in parts.items()
    )
    text = f'{{\n  "settings": {json.dumps(split.settings)},\n  "store": "{split.store}",\n{lines}\n}}\n'
    write_atomically(path, text)


def read_split(path: Path, store: SliceStore) -> Split:
    """Read a split back; raises UserError where it does not fit this store."""
    row_of = {(row.case, row.index): number for number, row in enumerate(store.rows)}
    try:
        values = json.loads(path.read_text())
        if values['store'] != store.digest:
            raise UserError(
                f'{path}: made for another slice store than {store.path}; use a new --workdir or bring that store back'
            )
        rows = {
            part: sorted(row_of[case['case'], index] for case in values[part] for index in case['slices'])
            for part in PARTS
        }
        split = Split(values['settings'], values['store'], {part: np.array(rows[part], int) for part in PARTS})
        _check_disjoint(path, split, store)
        return split
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f'{path}: not a readable split ({type(error).__name__}: {error}); delete it, it is made again from the seed'
        ) from error


def load_or_make_split(path: Path, store: SliceStore, config: SplitConfig) -> Split:
    """The split at `path` if there, else a new one, written there."""
    if not path.exists():
        write_split(path, make_split(store, config), store)
    split = read_split(path, store)
    if split.settings != _plain(config):
        raise UserError(f'{path}: made with {split.settings}; expected {_plain(config)}, use a new --workdir')
    return split


def _plain(config: SplitConfig) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return values


def _check_disjoint(path: Path, split: Split, store: SliceStore) -> None:
    """No slice, and by patient no patient, in two parts; something in each."""
    by_patient = split.settings['by'] == 'patient'
    owners = {
        part: {store.rows[row].patient if by_patient else row for row in rows} for part, rows in split.rows.items()
    }
    for first, second in (('train', 'val'), ('train', 'test'), ('val', 'test')):
        if both := owners[first] & owners[second]:
            raise UserError(f'{path}: {min(both)} is in {first} and in {second}; expected disjoint parts, delete it')
    if not all(owners.values()):
        raise UserError(f'{path}: a part without slices; expected some in each, delete it to make it again')


def _sizes(count: int, fractions: Sequence[float]) -> list[int]:
    """Sizes of val and test by rounding, at least one; train takes the rest, at least one."""
    rest = [max(1, round(count * fraction)) for fraction in fractions[1:]]
    while count - sum(rest) < 1:
        rest[rest.index(max(rest))] -= 1
    return [count - sum(rest), *rest]


def _by_case(store: SliceStore, rows: np.ndarray) -> dict[str, list[int]]:
    cases: dict[str, list[int]] = {}
    for row in rows:
        cases.setdefault(store.rows[row].case, []).append(int(row))
    return cases
