"""What is scored: slices of a store and, where they are at hand, the whole scans that these are of."""

import dataclasses
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path

import numpy as np

from liver_jax.config import DataConfig
from liver_jax.data.layouts import Case
from liver_jax.data.prepare import check_store, raw_cases, store_settings
from liver_jax.data.splits import Split
from liver_jax.data.store import SliceStore
from liver_jax.data.volumes import Scan, open_scan
from liver_jax.errors import UserError

NO_SCANS = 'native resolution and slices that were not kept need the raw volumes'


@dataclasses.dataclass(frozen=True)
class Part:
    """Slices to score: `rows` of `store`, and `scans` with their patients, none where the volumes are not at hand.

    `whole`: every slice of a scan counts, for no other part has any of them; else `slices` (case, index) alone do.
    """

    store: SliceStore
    rows: np.ndarray
    scans: tuple[tuple[Case, str], ...]
    whole: bool

    @cached_property
    def slices(self) -> set[tuple[str, int]]:
        """Case and index of every row."""
        return {(row.case, row.index) for row in (self.store.rows[number] for number in self.rows)}

    @property
    def complete(self) -> bool:
        """Whether all slices of the scans are counted, not only those kept in the store."""
        return self.store.manifest['settings']['slices'] == 'all' or (self.whole and bool(self.scans))

    def opened(self) -> Iterator[tuple[Scan, str]]:
        """The scans, opened, and their patients."""
        window = self.store.manifest['settings']['window']
        return ((open_scan(case, tuple(window)), patient) for case, patient in self.scans)


def make_part(store: SliceStore, split: Split, part: str, scans: Mapping[str, Case] | None) -> Part:
    """A part of a split; `scans` are the volumes of the store by name (`find_scans`).

    Split by patient all scans of its patients belong to it, also those of which no slice was kept. Split by slice,
    other slices of the scans are in other parts, so they do not count.
    """
    return part_of_rows(store, split.rows[part], scans, whole=split.settings['by'] == 'patient')


def part_of_rows(
    store: SliceStore, rows: np.ndarray, scans: Mapping[str, Case] | None, whole: bool, without: tuple[str, ...] = ()
) -> Part:
    """The part with these rows, of which the scans named in `without` are left out."""
    own = {store.rows[row].patient if whole else store.rows[row].case for row in rows}
    key = 'patient' if whole else 'name'
    cases = [case for case in store.manifest['cases'] if case[key] in own and case['name'] not in without]
    found = tuple((scans[case['name']], case['patient']) for case in cases) if scans else ()
    return Part(store, rows, found, whole)


def find_scans(store: SliceStore, data: DataConfig) -> tuple[dict[str, Case] | None, str]:
    """The volumes that a store was made from, by name, and a note; None, and why, where they are not at hand."""
    if not data.raw or not Path(data.raw).is_dir():
        return None, f'{NO_SCANS}, and data.raw ({data.raw!r}) is no folder'
    try:
        cases, source = raw_cases(data)
        check_store(store.path, store_settings(data), cases, source)
    except UserError as error:
        return None, f'{NO_SCANS}, but {error}'
    return {case.name: case for case in cases}, ''
