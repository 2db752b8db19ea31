"""Finding cases on disk. A layout is recognised by its file names, never configured.

| layout | image | label |
|---|---|---|
| Kaggle, CodaLab (any nesting) | `volume-N.nii[.gz]` | `segmentation-N.nii[.gz]` |
| MSD Task03_Liver | `imagesTr/liver_N.nii[.gz]` | `labelsTr/liver_N.nii[.gz]` |

Images and labels are joined on the integer N, never on their order. Hidden files (`._*` of macOS) are passed over.
"""

import csv
import dataclasses
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from liver_jax.errors import UserError

_IMAGE = re.compile(r'(?:volume-|imagesTr/liver_)(\d+)\.nii(?:\.gz)?')
_LABEL = re.compile(r'(?:segmentation-|labelsTr/liver_)(\d+)\.nii(?:\.gz)?')


@dataclasses.dataclass(frozen=True)
class Case:
    """One scan with its labels; several cases can be of one patient."""

    name: str
    kind: Literal['nifti', 'dicom', 'png']
    images: tuple[Path, ...]  # one volume, or the slices of a series in any order
    labels: tuple[Path, ...]  # its segmentation; empty where there is none
    patient: str  # empty where only the anatomy can tell


def find_cases(root: Path, patients: str = '', images: str = '', labels: str = '') -> tuple[list[Case], str]:
    """All labelled cases below `root`, ordered by number, and a sentence on where the patients come from.

    `patients` is a CSV with the columns case,patient; by default `root/patients.csv`, else one patient per volume.

    Raises:
        UserError: no folder, no case in it, a volume without segmentation, one number twice, a bad patients file.
    """
    if not root.is_dir():
        raise UserError(f'{root}: no such folder; expected one with CT volumes, set data.raw to it')
    images, labels = _by_number(root, _IMAGE), _by_number(root, _LABEL)  # type: ignore
    if not images:
        raise UserError(
            f'{root}: no CT volume found among {sum(1 for _ in _files(root))} files; expected volume-N.nii[.gz] with '
            'segmentation-N.nii[.gz], or imagesTr/liver_N.nii.gz with labelsTr/liver_N.nii.gz; set data.raw there'
        )
    for number, image in images.items():
        if number not in labels:
            raise UserError(
                f'{image}: no segmentation with the number {number} below {root}; add it or move the volume away'
            )
        for path in (image, labels[number]):
            if not path.is_file():
                raise UserError(f'{path}: not a file, perhaps a link that leads nowhere; expected a NIfTI volume')
    names = {number: _stem(image) for number, image in images.items()}
    patient_of, source = _patients(root, patients, list(names.values()))
    cases = [
        Case(names[number], 'nifti', (images[number],), (labels[number],), patient_of[names[number]])
        for number in sorted(images)
    ]
    return cases, source


def _by_number(root: Path, pattern: re.Pattern[str]) -> dict[int, Path]:
    found: dict[int, Path] = {}
    for path in _files(root):
        match = pattern.fullmatch(path.name) or pattern.fullmatch('/'.join(path.parts[-2:]))
        if not match:
            continue
        number = int(match[1])
        if number in found:
            raise UserError(
                f'{path}: number {number} is also at {found[number]}; expected each number once, remove one'
            )
        found[number] = path
    return found


def _files(root: Path) -> Iterator[Path]:
    seen: set[str] = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # links that lead back
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith(('.', '__MACOSX')))
        yield from (Path(folder, name) for name in sorted(names) if not name.startswith('.'))


def _stem(path: Path) -> str:
    return path.name.removesuffix('.gz').removesuffix('.nii')


def _patients(root: Path, patients: str, names: list[str]) -> tuple[dict[str, str], str]:
    path = root / 'patients.csv' if patients in ('', 'signature', 'volume') else Path(patients)
    if patients == 'volume':
        return {name: name for name in names}, 'one per volume, though some LiTS volumes share a patient'
    if patients == 'signature' or (not patients and not path.exists()):
        return dict.fromkeys(names, ''), 'from the anatomy: cases that look alike count as one patient'
    try:
        with open(path, newline='', encoding='utf-8-sig') as file:
            rows = [{k: (v or '').strip() for k, v in row.items() if k} for row in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f'{path}: cannot be read ({error}); expected a CSV with the columns case,patient') from error
    if not rows or not {'case', 'patient'} <= rows[0].keys() or not all(row['patient'] for row in rows):
        raise UserError(f'{path}: expected a CSV with the columns case,patient and a patient in every row')
    given: dict[str, str] = {}
    for row in rows:
        if given.setdefault(row['case'], row['patient']) != row['patient']:
            raise UserError(
                f'{path}: {row["case"]} is of {given[row["case"]]!r} and of {row["patient"]!r}; expected one patient'
            )
    missing = [name for name in names if name not in given]
    if missing:
        raise UserError(
            f'{path}: no row for {", ".join(missing[:5])}; expected a row for each of the {len(names)} cases'
        )
    return {name: given[name] for name in names}, f'from {path.name}'
