"""`liver-jax evaluate --raw`: other volumes, without those that the network already knows, by their content."""

import dataclasses
import hashlib
import logging
from pathlib import Path
from typing import Any

import numpy as np

from liver_jax.config import DataConfig
from liver_jax.data.certificate import Record
from liver_jax.data.prepare import prepare, raw_cases
from liver_jax.data.store import SliceStore
from liver_jax.errors import UserError
from liver_jax.runtime.interrupt import unwinding

log = logging.getLogger(__name__)
KNOWN_FROM = {'train': 'in training', 'val': 'in validation'}


def choose_external(
    raw: Path, patterns: tuple[str, str], data: DataConfig, workdir: Path, split: Record, keep: bool
) -> tuple[SliceStore, np.ndarray, dict[str, Any]]:
    """Prepare the volumes below `raw` like those of the run; their store, the rows to score, and what these are.

    `patterns` are as data.images and data.labels. Scans that were in training or validation of `split` are left out,
    or with `keep` make the warning.

    Raises:
        UserError: no such folder, or nothing in it but such scans.
    """
    if not raw.is_dir():
        raise UserError(f'--raw={raw}: no such folder; expected one with CT volumes and their segmentations')
    with unwinding():
        store = SliceStore(prepare(external_data(raw, patterns, data, workdir)))
    known = known_cases(store, split)
    names = ', '.join(f'{case["case"]} ({KNOWN_FROM[case["part"]]}, as {case["same_as"]})' for case in known)
    total = len(store.contents)
    told = f'{len(known)} of {total} volumes trained the network or chose its checkpoint: {names}' if known else ''
    if told:
        log.warning('%s; %s', told, 'scored nonetheless' if keep else 'left out of the score')
    left_out = [] if keep else known
    gone = {case['case'] for case in left_out}
    rows = np.array([number for number, row in enumerate(store.rows) if row.case not in gone], int)
    if not len(rows):
        raise UserError(
            f'--raw={raw}: nothing left to score, {told}; '
            'expected other volumes, or --keep_training_cases to score these nonetheless'
        )
    warning = f'{told}; these scores say little about new patients' if keep and told else ''
    return store, rows, {'split': 'external', 'split_by': None, 'warning': warning, 'left_out': left_out}


def external_data(raw: Path, patterns: tuple[str, str], data: DataConfig, workdir: Path) -> DataConfig:
    """The config of these volumes, prepared like those of the run into a store of its own.

    Other files have another store, so that a changed folder is prepared anew.
    """
    images, labels = patterns
    data = dataclasses.replace(data, raw=str(raw.absolute()), images=images, labels=labels, patients='')
    cases, _ = raw_cases(data)
    stats = [(str(path), path.stat()) for case in cases for path in (*case.images, *case.labels)]
    files = sorted((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)
    key = hashlib.sha256(repr(files).encode()).hexdigest()[:12]
    return dataclasses.replace(data, store=str(workdir.absolute() / 'external' / key))


def known_cases(store: SliceStore, split: Record) -> list[dict[str, str]]:
    """The cases of a store whose voxels were in training or validation: `case`, `part`, and `same_as` there."""
    known = split.known
    return [{'case': case, **known[content]} for case, content in store.contents.items() if content in known]
