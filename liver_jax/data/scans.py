"""Finding scans to predict on: NIfTI files of any name and DICOM series, labels beside them left aside."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from liver_jax.data.folder import check_readable, files_below
from liver_jax.data.formats.dicom_series import find_images, plain_name
from liver_jax.data.layouts import DECATHLON, KAGGLE, Case, natural
from liver_jax.errors import UserError

NIFTI = ('.nii', '.nii.gz')


def find_scans(source: Path) -> tuple[list[Case], list[UserError]]:
    """The scans that `source` is or holds, as cases without labels, by name; and files that cannot be read.

    `source` is a NIfTI file, an enhanced CT in one file, or a folder of scans at any depth. Names are unique and fit
    for files.

    Raises:
        UserError: nothing there, or no scan among it.
    """
    if not source.exists():
        raise UserError(f'--input={source}: no such file or folder; expected a NIfTI file, a DICOM series or a folder')
    root, files = (source, list(files_below(source, '--input'))) if source.is_dir() else (source.parent, [source])
    for path in files if source.is_file() else ():
        check_readable(path)
    nifti = [path for path in files if path.name.endswith(NIFTI) and not _is_label(path)]
    if source.is_file() and source.name.endswith(NIFTI):
        nifti = [source]  # whoever names a file means it
    series, damaged = find_images(root, files)
    named = [
        *(Case(name, 'nifti', (path,), (), '') for name, path in zip(_names(root, nifti), nifti, strict=True)),
        *(Case(name, 'dicom', images, (), '') for name, images in series),
    ]
    if not named and damaged:
        raise damaged[0]
    if not named:
        raise UserError(
            f'--input={source}: no scan among {len(files)} files; expected .nii, .nii.gz or DICOM series of CT, '
            'unpack archives first'
        )
    cases: list[Case] = []
    for case in named:
        taken, number, name = {other.name for other in cases}, 2, case.name
        while name in taken:
            name, number = f'{case.name}-{number}', number + 1
        cases.append(dataclasses.replace(case, name=name))
    return sorted(cases, key=lambda case: natural(case.name)), damaged


def _is_label(path: Path) -> bool:
    return bool(KAGGLE[1].fullmatch(path.name) or DECATHLON[1].fullmatch('/'.join(path.parts[-2:])))


def _names(root: Path, files: Sequence[Path]) -> list[str]:
    """The file's name without ending; where files share one, the way to it from `root`."""
    short = [_stem(path.name) for path in files]
    often = Counter(short)
    longer = [_stem('-'.join(path.relative_to(root).parts)) for path in files]
    return [name if often[name] == 1 else long for name, long in zip(short, longer, strict=True)]


def _stem(name: str) -> str:
    return plain_name(name.removesuffix('.gz').removesuffix('.nii')) or 'scan'
