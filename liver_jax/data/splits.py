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
from liver_jax.data.certificate import (
    MADE_AGAIN,
    PARTS,
    CasePart,
    Record,
    check_record,
    parse_record,
    write_split,
)
from liver_jax.data.store import SliceStore
from liver_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Split(Record):
    """A split with its rows of the store per part, ascending."""

    rows: dict[str, np.ndarray]


def make_split(store: SliceStore, config: SplitConfig) -> Split:
    """Deal patients (or slices) to the parts by the seed: by the fractions, or in `folds` groups of one size.

    With `stratify` every part gets its share of patients with little and with much tumour. Of the groups, which do
    not depend on `fold`, number `fold` is for testing and the next one for validation.

    Raises:
        UserError: fewer patients (or slices) than parts or folds; one scan as two patients.
    """
    if config.by == 'patient':
        order, owner = _patients(store, config.stratify)
    else:
        order, owner = np.arange(len(store)), np.arange(len(store))
    count, least = len(order), config.folds or len(PARTS)
    if count < least:
        what = f'split.folds={config.folds}' if config.folds else 'train, val and test'
        way_out = 'set split.folds lower' if config.folds else "set split.by='slice' and mind its warning"
        raise UserError(
            f'{store.path}: slices of {count} {config.by}s; expected at least {least} for {what}; '
            f'add volumes, or {way_out}'
        )
    if config.by == 'patient':
        _check_contents(store)
    sizes = _equal_sizes(count, config.folds) if config.folds else _sizes(count, config.fractions)
    blocks = min(sizes) if config.by == 'patient' and config.stratify else 1
    groups = _deal(order, sizes, blocks, config.seed)
    if config.folds:
        test, val = config.fold, (config.fold + 1) % config.folds
        rest = [group for number, group in enumerate(groups) if number not in (test, val)]
        groups = [np.concatenate(rest), groups[val], groups[test]]
    rows = {part: np.flatnonzero(np.isin(owner, group)) for part, group in zip(PARTS, groups, strict=True)}
    parts = {part: _case_parts(store, chosen) for part, chosen in rows.items()}
    return Split(_plain(config), store.digest, parts, store.manifest['patients'], store.look_alikes, rows)


def read_split(path: Path, store: SliceStore) -> Split:
    """Read a split back; raises UserError where it does not fit this store, or its certificate does not hold."""
    record, stated = parse_record(path)
    if record.store != store.digest:
        raise UserError(
            f'{path}: made for another slice store than {store.path}; use a new --workdir or bring that store back'
        )
    _check_cases(path, record, store)
    check_record(path, record, stated)
    row_of = {(row.case, row.index): number for number, row in enumerate(store.rows)}
    rows = {
        part: np.array(sorted(row_of[each.case, index] for each in cases for index in each.slices), int)
        for part, cases in record.parts.items()
    }
    return Split(record.settings, record.store, record.parts, record.patients_from, record.look_alikes, rows)


def load_or_make_split(path: Path, store: SliceStore, config: SplitConfig) -> Split:
    """The split at `path` if there, else a new one, written there."""
    if not path.exists():
        write_split(path, make_split(store, config))
    split = read_split(path, store)
    if split.settings != _plain(config):
        raise UserError(f'{path}: made with {split.settings}; expected {_plain(config)}, use a new --workdir')
    return split


def _plain(config: SplitConfig) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return values


def _check_cases(path: Path, record: Record, store: SliceStore) -> None:
    """The cases of the file, and whose they are, are as the store has them."""
    rows = {(row.case, row.index): row for row in store.rows}
    for case in (case for cases in record.parts.values() for case in cases):
        missing = [index for index in case.slices if (case.case, index) not in rows]
        if missing:
            raise UserError(f'{path}: slice {missing[0]} of {case.case} is not in {store.path}; {MADE_AGAIN}')
        found = {'patient': rows[case.case, case.slices[0]].patient, 'content': store.contents[case.case]}
        for name, value in found.items():
            given = getattr(case, name)
            if given != value:
                raise UserError(f'{path}: {name} of {case.case} is {given}, but {value} in {store.path}; {MADE_AGAIN}')

    told = (record.patients_from, record.look_alikes)
    if told != (store.manifest['patients'], store.look_alikes):
        raise UserError(f'{path}: says of patients what {store.path} does not, it was edited; {MADE_AGAIN}')


def _check_contents(store: SliceStore) -> None:
    """One scan is of one patient: given as two, it could train and test at once."""
    owner: dict[str, tuple[str, str]] = {}
    for case, patient in {row.case: row.patient for row in store.rows}.items():
        first, other = owner.setdefault(store.contents[case], (case, patient))
        if other != patient:
            raise UserError(
                f'{store.path}: {first} (patient {other}) and {case} (patient {patient}) are the same scan; '
                'expected one patient, give both the same in patients.csv or remove one'
            )


def _patients(store: SliceStore, by_tumor: bool) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the patients, by name or by falling tumour volume, and the number of each row's patient."""
    patient_of = {row.case: row.patient for row in store.rows}
    number = {name: index for index, name in enumerate(sorted(set(patient_of.values())))}
    volumes = np.zeros(len(number))
    for case, patient in patient_of.items():
        volumes[number[patient]] += store.tumor_mm3[case]
    order = np.argsort(-volumes, kind='stable') if by_tumor else np.arange(len(number))
    return order, np.array([number[row.patient] for row in store.rows], int)


def _deal(order: np.ndarray, sizes: Sequence[int], blocks: int, seed: int) -> list[np.ndarray]:
    """Groups of these sizes: consecutive blocks of `order` are shuffled, and each group gets its share.

    With one block that is a plain shuffle. Shares differ from equal ones by less than one unit per block.
    """
    rng = np.random.default_rng(seed)
    dealt = np.arange(blocks + 1)[:, None] * np.asarray(sizes) // blocks  # to each group up to each block's end
    ends = dealt.sum(axis=1)
    groups: list[list[np.ndarray]] = [[] for _ in sizes]
    for block in range(blocks):
        shuffled = rng.permutation(order[ends[block] : ends[block + 1]])
        shares = np.split(shuffled, np.cumsum(dealt[block + 1] - dealt[block])[:-1])
        for group, share in zip(groups, shares, strict=True):
            group.append(share)
    return [np.concatenate(group) for group in groups]


def _sizes(count: int, fractions: Sequence[float]) -> list[int]:
    """Sizes of val and test by rounding, at least one; train takes the rest, at least one."""
    rest = [max(1, round(count * fraction)) for fraction in fractions[1:]]
    while count - sum(rest) < 1:
        rest[rest.index(max(rest))] -= 1
    return [count - sum(rest), *rest]


def _equal_sizes(count: int, groups: int) -> list[int]:
    """Sizes that differ by one at most."""
    return [count // groups + (number < count % groups) for number in range(groups)]


def _case_parts(store: SliceStore, rows: np.ndarray) -> list[CasePart]:
    """The rows case by case."""
    cases: dict[str, list[int]] = {}
    for row in rows:
        cases.setdefault(store.rows[row].case, []).append(int(row))
    return [
        CasePart(case, store.rows[own[0]].patient, store.contents[case], tuple(store.rows[row].index for row in own))
        for case, own in cases.items()
    ]
