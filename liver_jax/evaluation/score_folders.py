"""`liver-jax score`: a folder of predictions beside one of references, whatever made them -> scores as plain data."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from liver_jax.data.folder import check_readable, files_below
from liver_jax.data.layouts import KAGGLE, Case
from liver_jax.data.volumes import LabelMap, read_label_map
from liver_jax.data.workers import over_cases
from liver_jax.errors import UserError
from liver_jax.evaluation.score_volumes import RULES, TARGETS, mean, pool, score_volume

LABELS = ('auto', 'lits', 'tumor', 'liver')
CASE_SECONDS = 3600.0
NO_TUMOR = (
    'no prediction has label 2 though references do: 1 is read as liver with tumour, and tumour is not scored; '
    'say --labels=tumor if 1 is tumour, --labels=lits if no tumour was found anywhere'
)
NO_LIVER = 'predictions or references have label 2 alone: tumour is scored, the liver is not'
MEANINGS = {
    'lits': '1 is liver, 2 is tumour; the liver is scored with its tumours',
    'tumor': 'predictions: any label is tumour; references: {} is; the liver is not scored',
    'liver': 'any label is liver, tumour included; tumour is not scored',
}


def score_folders(prediction: Path, reference: Path, labels: str = 'auto') -> dict[str, Any]:
    """Score every NIfTI segmentation below `prediction` with its partner below `reference`, joined by number.

    `labels` says what the predictions' labels mean: 'lits' (1 liver, 2 tumour), 'tumor' or 'liver' (one class), or
    'auto' (as in LiTS, but a class is left out where no prediction could show it).

    Returns:
        'cases' (a flat entry per scored case, see `score_volume`), 'mean' and 'count' over them, 'global' (pooled),
        'failed' (an entry with 'case', 'files' and 'reason' for each that could not be scored), 'labels', 'rules'.

    Raises:
        UserError: a folder is missing, unreadable or holds no segmentation.
    """
    pairs, failed = _join(_numbered(prediction), _numbered(reference))
    binary = labels == 'tumor' and not _any_tumor(pair[1] for pair in pairs)
    jobs = [(Case(_stem(theirs), 'nifti', (mine,), (theirs,), ''), labels, binary) for mine, theirs in pairs]
    results: dict[int, dict[str, Any]] = dict(over_cases(_score_case, jobs, 1, CASE_SECONDS, 'score'))
    cases = [results[number] for number in range(len(jobs))]
    failed += [case for case in cases if 'reason' in case]
    cases = [case for case in cases if 'reason' not in case]
    meaning = MEANINGS['lits' if labels == 'auto' else labels].format('any label' if binary else 'label 2')
    if labels == 'auto' and cases:
        targets, meaning = _targets(cases, meaning)
        cases = [_only(case, targets) for case in cases]
    names = list(dict.fromkeys(name for case in cases for name in case if '.' in name))
    return {
        'cases': [{name: value for name, value in case.items() if name != 'pooled'} for case in cases],
        'mean': {name: mean([case[name] for case in cases]) for name in names},
        'count': {name: sum(case[name] == case[name] for case in cases) for name in names},
        'global': pool(cases) if cases else {},
        'failed': failed,
        'labels': meaning,
        'rules': RULES,
    }


def _numbered(folder: Path) -> dict[int | str, list[Path]]:
    """The NIfTI files below a folder by the last whole number in their names, or by name where there is none."""
    if not folder.is_dir():
        raise UserError(f'{folder}: no such folder; expected one with NIfTI segmentations')
    files = [path for path in files_below(folder) if path.name.endswith(('.nii', '.nii.gz'))]
    if not files:
        raise UserError(f'{folder}: no .nii or .nii.gz file in it; expected segmentations such as segmentation-0.nii')
    found: dict[int | str, list[Path]] = defaultdict(list)
    for path in files:
        numbers = re.findall(r'\d+', _stem(path))
        found[int(numbers[-1]) if numbers else path.name].append(path)
    for number, paths in found.items():
        # A folder of LiTS as downloaded: the CT volumes lie beside their segmentations.
        masks = [path for path in paths if not KAGGLE[0].fullmatch(path.name)]
        if len(paths) > len(masks) > 0:
            found[number] = masks
    return found


def _join(
    predictions: dict[int | str, list[Path]], references: dict[int | str, list[Path]]
) -> tuple[list[tuple[Path, Path]], list[dict[str, Any]]]:
    """Pairs in the order of their numbers, and what has no one partner."""
    pairs, failed = [], []
    for number in sorted({*predictions, *references}, key=lambda key: (isinstance(key, str), key)):
        mine, theirs = predictions.get(number, []), references.get(number, [])
        if isinstance(number, str):
            reason = f'{(mine + theirs)[0]}: no number in its name; expected one to join it by, such as case-7.nii.gz'
        elif len(mine) > 1 or len(theirs) > 1:
            first, second, *_ = mine if len(mine) > 1 else theirs
            reason = f'{second}: number {number} is also that of {first}; expected each number once, remove one'
        elif not theirs:
            reason = f'{mine[0]}: no reference with the number {number}; add it or move the prediction away'
        elif not mine:
            reason = f'{theirs[0]}: no prediction with the number {number}; add it or move the reference away'
        else:
            pairs.append((mine[0], theirs[0]))
            continue
        failed.append(_failure(str(number), [*mine, *theirs], reason))
    return pairs, failed


def _any_tumor(paths: Iterable[Path]) -> bool:
    """Whether a reference that can be read has label 2."""
    for path in paths:
        try:
            if (read_label_map(path).labels == 2).any():
                return True
        except (UserError, OSError):
            continue  # said when it is scored
    return False


def _score_case(case: Case, labels: str, binary: bool) -> dict[str, Any]:
    """The scores of one pair, or its failure. `binary`: any label of a reference is tumour."""
    paths = case.images[0], case.labels[0]
    try:
        for path in paths:
            check_readable(path)
        prediction, reference = (read_label_map(path) for path in paths)
        _check_grid(paths, prediction, reference)
        targets = TARGETS if labels in ('auto', 'lits') else (labels,)
        if labels == 'tumor':
            if {1, 2} <= set(np.unique(prediction.labels).tolist()):
                raise UserError(f'{paths[0]}: labels 1 and 2; with --labels=tumor expected only one beside 0')
            prediction.labels[prediction.labels > 0] = 2
            if binary:
                reference.labels[reference.labels > 0] = 2
        scores = score_volume(prediction.labels, reference.labels, reference.spacing, targets)
        return {'case': _plain(case.name), 'files': [_plain(path.name) for path in paths], **scores}
    except (UserError, OSError) as error:
        return _failure(case.name, paths, str(error))


def _check_grid(paths: tuple[Path, Path], prediction: LabelMap, reference: LabelMap) -> None:
    """Refuse two grids whose voxels lie half a voxel or more apart, both being in the canonical frame."""
    sizes = ['x'.join(map(str, each.labels.shape)) for each in (prediction, reference)]
    if sizes[0] != sizes[1]:
        raise UserError(
            f'{paths[0]}: {sizes[0]} voxels (slices, rows, columns), but {paths[1].name} has {sizes[1]}; '
            'expected the grid of the reference'
        )
    ends = np.array(reference.labels.shape) - 1
    corners = np.array([[*(ends * corner), 1] for corner in np.ndindex(2, 2, 2)])
    apart = float(np.linalg.norm(corners @ (prediction.affine - reference.affine).T, axis=1).max())
    if apart >= min(reference.spacing) / 2:
        raise UserError(
            f'{paths[0]}: its affine puts voxels up to {apart:.3g} mm from those of {paths[1].name}; '
            'expected the grid of the reference, write the prediction with its affine'
        )


def _targets(cases: Sequence[dict[str, Any]], meaning: str) -> tuple[tuple[str, ...], str]:
    """What the labels that are there allow to score, and that in words."""
    voxels = {target: np.sum([case['pooled']['voxels'][target] for case in cases], axis=0) for target in TARGETS}
    tumor, only_liver = voxels['tumor'][:2] > 0, (voxels['liver'] - voxels['tumor'])[:2] > 0  # (prediction, reference)
    if tumor[1] and only_liver[0] and not tumor[0]:
        return ('liver',), NO_TUMOR
    if any(tumor & ~only_liver):
        return ('tumor',), NO_LIVER
    return TARGETS, meaning


def _only(case: dict[str, Any], targets: Sequence[str]) -> dict[str, Any]:
    """The entry of a case without what the other target stands in."""
    if set(targets) == set(TARGETS):
        return case
    out = ('tumor.', 'lesion', 'detected.', 'burden.') if targets == ('liver',) else ('liver.', 'burden.')
    kept = {name: value for name, value in case.items() if not name.startswith(out)}
    voxels = {target: case['pooled']['voxels'][target] for target in targets}
    return kept | {'pooled': case['pooled'] | {'voxels': voxels}}


def _failure(name: str, paths: Sequence[Path], reason: str) -> dict[str, Any]:
    return {'case': _plain(name), 'files': [_plain(path.name) for path in paths], 'reason': _plain(reason)}


def _stem(path: Path) -> str:
    return path.name.removesuffix('.gz').removesuffix('.nii')


def _plain(text: str) -> str:
    """Text for one line: file names may hold line breaks and commands to the terminal."""
    return ''.join(letter if letter.isprintable() else '?' for letter in text)
