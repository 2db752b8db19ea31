"""Finding cases on disk. A layout is recognised by its file names, and DICOM by its content; nothing is configured.

| layout | image | label |
|---|---|---|
| Kaggle, CodaLab (any nesting) | `volume-N.nii[.gz]` | `segmentation-N.nii[.gz]` |
| MSD Task03_Liver | `imagesTr/liver_N.nii[.gz]` | `labelsTr/liver_N.nii[.gz]` |
| Kaggle lits-png | `volume-N_K.png` | `segmentation-N_livermask_K.png`, `segmentation-N_lesionmask_K.png` |
| DICOM | a CT series | its DICOM-SEGs, or none |

Images and labels are joined on the integer N, never on their order. Pairs of NIfTI with other names are found by two
patterns. Archives are never unpacked.
"""

import dataclasses
import os
import re
from collections import Counter
from pathlib import Path
from typing import Literal

from liver_jax.data.folder import check_readable, files_below, is_archive
from liver_jax.data.formats.dicom_series import find_series
from liver_jax.data.formats.pictures import find_pictures
from liver_jax.data.patient_table import given_patients
from liver_jax.errors import UserError

KAGGLE = re.compile(r'volume-(\d+)\.nii(?:\.gz)?', re.I), re.compile(r'segmentation-(\d+)\.nii(?:\.gz)?', re.I)
DECATHLON = re.compile(r'imagesTr/liver_(\d+)\.nii(?:\.gz)?'), re.compile(r'labelsTr/liver_(\d+)\.nii(?:\.gz)?')

# Wildcards of a pattern, and what each may stand for.
_STAR = re.compile(r'(\*\*/|\*|\?)')
_STARS = {'**/': '(.*/)?', '*': '([^/]*)', '?': '([^/])'}


@dataclasses.dataclass(frozen=True)
class Case:
    """One scan with its labels; several cases can be of one patient."""

    name: str
    kind: Literal['nifti', 'dicom', 'png']
    images: tuple[Path, ...]  # one volume, or the slices of a series in any order
    labels: tuple[Path, ...]  # its segmentation; empty where there is none
    patient: str  # empty where only the anatomy can tell
    fault: str = ''  # why it cannot be read at all, seen without opening it


def find_cases(root: Path, patients: str = '', images: str = '', labels: str = '') -> tuple[list[Case], str]:
    """All cases below `root`, ordered by number or name, and a sentence on where their patients come from.

    `patients` is the config field: '' for `root/patients.csv`, else what a DICOM header says, else the anatomy;
    'signature' for the anatomy; 'volume' for one per case; else a CSV with the columns case,patient. `images` and
    `labels` are patterns of NIfTI files below `root`, joined on what their stars stand for.

    Raises:
        UserError: no folder, no case in it or two layouts at once, a link that leads out, a bad patients file. What is
            wrong with a single case (no segmentation, a number twice, a file that may not be read) is its `fault`.
    """
    if is_archive(root) and root.is_file():
        raise UserError(f'{root}: an archive; expected a folder, unpack it first and set data.raw to what comes out')
    if not root.is_dir():
        what = 'not a folder' if root.exists() else 'no such folder'
        raise UserError(f'{root}: {what}; expected one with CT volumes, set data.raw to it')
    files = list(files_below(root))
    cases, headers = _recognised(root, files) if not images else (_matched(root, files, images, labels), [])
    cases = [_checked(case) for case in _with_own_names(cases)]
    names, source = given_patients([case.name for case in cases], headers, root, patients)
    return [dataclasses.replace(case, patient=name) for case, name in zip(cases, names, strict=True)], source


def _checked(case: Case) -> Case:
    try:
        for path in (*case.images, *case.labels):
            check_readable(path)
    except UserError as error:
        return dataclasses.replace(case, fault=case.fault or str(error))
    return case


def _with_own_names(cases: list[Case]) -> list[Case]:
    """Cases are told apart by name: the second of a name is numbered."""
    often: Counter[str] = Counter()
    named = []
    taken = {case.name for case in cases}
    for case in cases:
        name = case.name
        while often[case.name] and name in taken:
            often[case.name] += 1
            name = f'{case.name}-{often[case.name]}'
        often[case.name] += 1
        taken.add(name)
        named.append(dataclasses.replace(case, name=name))
    return named


def _recognised(root: Path, files: list[Path]) -> tuple[list[Case], list[tuple[str, str]]]:
    """The cases of the one layout that is there, and (PatientID, StudyInstanceUID) of each if it is DICOM."""
    series, dicom = find_series(root, files)
    layouts = {
        'Kaggle (volume-N.nii)': _numbered(root, files, *KAGGLE),
        'MSD (imagesTr/liver_N.nii.gz)': _numbered(root, files, *DECATHLON),
        'lits-png (volume-N_K.png)': [
            Case(f'volume-{number}', 'png', *parts, '') for number, parts in find_pictures(files).items()
        ],
        'DICOM': [
            Case(one.name, 'dicom', one.images, one.labels, '')
            for one in sorted(series, key=lambda one: natural(one.name))
        ],
    }
    found = [name for name, cases in layouts.items() if cases]
    if len(found) > 1:
        raise UserError(
            f'{root}: layouts {" and ".join(found)} at once; expected one, set data.raw to the folder of it'
        )
    if not found:
        archives = [path.name for path in files if is_archive(path)]
        if archives:
            raise UserError(
                f'{root}: no CT volume, but {archives[0]} ({len(archives)} such); expected volumes, unpack it first'
            )
        if dicom:
            raise UserError(f'{root}: DICOM files, but no CT series ({dicom}); expected series of CT slices')
        raise UserError(
            f'{root}: no CT volume found among {len(files)} files; expected volume-N.nii[.gz] with '
            'segmentation-N.nii[.gz], imagesTr/liver_N.nii.gz with labelsTr/liver_N.nii.gz, volume-N_K.png with masks, '
            'or DICOM; set data.raw there, or data.images and data.labels to patterns'
        )
    cases = layouts[found[0]]
    headers = {one.name: (one.patient, one.study) for one in series}
    return cases, [headers[case.name] for case in cases if case.kind == 'dicom']


def _numbered(root: Path, files: list[Path], image: re.Pattern[str], label: re.Pattern[str]) -> list[Case]:
    """Pairs joined on their number; segmentations without a volume, as of test sets, are passed over."""
    images, labels = _by_number(files, image), _by_number(files, label)
    cases = []
    for number in sorted(images):
        (path, *others), masks = images[number], labels.get(number, [])
        fault = ''
        if not masks:
            fault = f'{path}: no segmentation with the number {number} below {root}; add it or move the volume away'
        for first, *more in ([path, *others], masks or [path]):
            if more:
                fault = f'{more[0]}: number {number} is also at {first}; expected each number once, remove one'
        cases.append(Case(_stem(path), 'nifti', (path,), tuple(masks[:1]), '', fault))
    return cases


def _by_number(files: list[Path], pattern: re.Pattern[str]) -> dict[int, list[Path]]:
    """Files by their number; two links to one file are one."""
    found: dict[int, list[Path]] = {}
    for path in files:
        match = pattern.fullmatch(path.name) or pattern.fullmatch('/'.join(path.parts[-2:]))
        if match:
            same = found.setdefault(int(match[1]), [])
            if os.path.realpath(path) not in map(os.path.realpath, same):
                same.append(path)
    return found


def _matched(root: Path, files: list[Path], images: str, labels: str) -> list[Case]:
    """Pairs of two patterns, joined on what their stars stand for, ordered by it."""
    stars = [len(_STAR.findall(pattern)) for pattern in (images, labels)]
    if stars[0] != stars[1] or not stars[0]:
        raise UserError(
            f'config fields data.images {images!r} and data.labels {labels!r}: {stars[0]} and {stars[1]} stars; '
            'expected the same number, at least one, for pairs are joined on what they stand for'
        )
    label_of = _by_key(root, files, labels, 'data.labels')
    # images/*.nii and images/*-label.nii: what the more exact pattern takes is not for the other one.
    taken = set(label_of.values()) if len(labels) > len(images) else set()
    image_of = _by_key(root, [path for path in files if path not in taken], images, 'data.images')
    label_of = {key: path for key, path in label_of.items() if path not in image_of.values()}
    for some, others, missing in ((image_of, label_of, 'label'), (label_of, image_of, 'image')):
        alone = next((key for key in some if key not in others), None)
        if alone is not None:
            raise UserError(
                f'{some[alone]}: no {missing} for {"/".join(alone)!r} with data.images {images!r} and data.labels '
                f'{labels!r}; expected pairs, add it or move the file away'
            )
    often = Counter(_stem(path) for path in image_of.values())
    cases = []
    for key, path in sorted(image_of.items(), key=lambda item: natural('/'.join(item[0]))):
        longer = '-'.join(key).replace('/', '-').strip('-') or _stem(path)
        name = _stem(path) if often[_stem(path)] == 1 else longer
        cases.append(Case(name, 'nifti', (path,), (label_of[key],), ''))
    return cases


def _by_key(root: Path, files: list[Path], pattern: str, field: str) -> dict[tuple[str, ...], Path]:
    """The files of a pattern by what its stars stand for."""
    regex = re.compile(''.join(_STARS.get(part) or re.escape(part) for part in _STAR.split(pattern)))
    found: dict[tuple[str, ...], Path] = {}
    for path in files:
        match = regex.fullmatch(path.relative_to(root).as_posix())
        if not match:
            continue
        if not path.name.endswith(('.nii', '.nii.gz')):
            raise UserError(f'{path}: taken by {field} {pattern!r}; expected only .nii and .nii.gz, narrow the pattern')
        found[tuple(group or '' for group in match.groups())] = path
    if not found:
        raise UserError(f'config field {field} is {pattern!r}, which matches none of {len(files)} files below {root}')
    return found


def natural(text: str) -> list[tuple[int, str]]:
    """As a reader sorts: 2 before 10."""
    return [(int(digits or -1), other) for digits, other in re.findall(r'(\d+)|(\D+)', text)]


def _stem(path: Path) -> str:
    return re.sub(r'\.nii(\.gz)?$', '', path.name, flags=re.I)
