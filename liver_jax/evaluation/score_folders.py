"""`liver-jax score`: a folder of predictions beside one of references, whatever made them -> scores as plain data."""

import json
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from liver_jax.data.folder import check_readable
from liver_jax.data.layouts import Case
from liver_jax.data.volumes import VoxelMap, read_label_map, read_probabilities
from liver_jax.data.workers import over_cases
from liver_jax.errors import UserError
from liver_jax.evaluation.score_files import Pair, failure, find_pairs, plain, stem
from liver_jax.evaluation.score_volumes import RULES, TARGETS, mean_scores, pool, score_volume
from liver_jax.metrics.froc import describe_froc, find_candidates, froc

log = logging.getLogger(__name__)
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
KNOWN = {'train': 'trained it', 'val': 'chose its checkpoint'}


def score_folders(
    prediction: Path, reference: Path, labels: str = 'auto', probabilities: Path | None = None
) -> dict[str, Any]:
    """Score every NIfTI segmentation below `prediction` with its partner below `reference`, joined by number.

    `labels` says what the predictions' labels mean: 'lits' (1 liver, 2 tumour), 'tumor' or 'liver' (one class), or
    'auto' (as in LiTS, but a class is left out where no prediction could show it). `probabilities` are of tumour, a
    file per prediction; they give 'froc'. All may be files instead of folders.

    Returns:
        'cases' (a flat entry per scored case, see `score_volume`), 'mean' and 'count' over them, 'global' (pooled),
        'unseen' ('cases', how many did not train the network where the predictions tell, and the same three of these),
        'failed' (an entry with 'case', 'files' and 'reason' for each that could not be scored), 'labels', 'rules',
        'notes' (what a reader of the numbers must know).

    Raises:
        UserError: a folder is missing, unreadable or holds no segmentation.
    """
    pairs, failed = find_pairs(prediction, reference, probabilities)
    binary = labels == 'tumor' and not _any_tumor(pair.reference for pair in pairs)
    cases, more = _score_pairs(pairs, labels, binary)
    meaning, notes = MEANINGS['lits' if labels == 'auto' else labels].format('any label' if binary else 'label 2'), []
    if labels == 'auto' and cases:
        targets, meaning = _targets(cases, meaning)
        cases = [_only(case, targets) for case in cases]
        notes += [meaning] if meaning in (NO_TUMOR, NO_LIVER) else []
    unseen = [case for case in cases if not case['known']]
    notes += [*_known_notes(cases), *(case['note'] for case in cases if case['note'])]
    return {
        'cases': [{name: value for name, value in case.items() if name != 'pooled'} for case in cases],
        **_together(cases),
        **({'unseen': {'cases': len(unseen), **_together(unseen)}} if 0 < len(unseen) < len(cases) else {}),
        **_froc(cases, probabilities, notes),
        'failed': [*failed, *more],
        'labels': meaning,
        'rules': RULES,
        'notes': notes,
    }


def check_all_scored(results: dict[str, Any]) -> None:
    """Raise UserError where a case could not be scored."""
    failed = results['failed']
    if failed:
        more = f' (and {len(failed) - 1} more, listed above)' if len(failed) > 1 else ''
        raise UserError(f'{failed[0]["reason"]}{more}; cases scored: {len(results["cases"])}')


def _score_pairs(pairs: Sequence[Pair], labels: str, binary: bool) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The scored cases, and what failed, in the order of the pairs."""
    jobs = [
        (Case(pair.name, 'nifti', (pair.prediction,), (pair.reference,), ''), pair, labels, binary) for pair in pairs
    ]
    results: dict[int, dict[str, Any]] = {}
    for number, result in over_cases(_score_case, jobs, 1, CASE_SECONDS, 'score'):
        results[number] = result
        log.info('%s (%d of %d): %s', result['case'], number + 1, len(jobs), _in_brief(result))
    cases = [results[number] for number in range(len(jobs))]
    return [case for case in cases if 'reason' not in case], [case for case in cases if 'reason' in case]


def _in_brief(result: dict[str, Any]) -> str:
    if 'reason' in result:
        return f'not scored: {result["reason"]}'
    dices = {target: result.get(f'{target}.dice', np.nan) for target in TARGETS}
    return ', '.join(f'{target} Dice {dice:.4f}' for target, dice in dices.items() if dice == dice) or 'no voxel'


def _score_case(case: Case, pair: Pair, labels: str, binary: bool) -> dict[str, Any]:
    """The scores of one pair, or its failure. `binary`: any label of a reference is tumour."""
    paths = pair.prediction, pair.reference
    try:
        for path in paths:
            check_readable(path)
        alone = labels in ('tumor', 'liver')
        prediction = read_label_map(pair.prediction, any_value=alone)
        reference, note = _placed(pair, prediction, alone and (binary or labels == 'liver'))
        targets = TARGETS if labels in ('auto', 'lits') else (labels,)
        if labels == 'tumor':
            if {1, 2} <= set(np.unique(prediction.values).tolist()):
                raise UserError(f'{paths[0]}: labels 1 and 2; with --labels=tumor expected only one beside 0')
            prediction.values[prediction.values > 0] = 2
            if binary:
                reference.values[reference.values > 0] = 2
        scores = score_volume(prediction.values, reference.values, reference.spacing, targets)
        if pair.probabilities:
            scores['pooled']['candidates'] = _candidates(pair.probabilities, pair.reference, reference)
        about = {'note': note, 'known': _known(pair.prediction)}
        return {'case': plain(case.name), 'files': [plain(path.name) for path in paths], **about, **scores}
    except (UserError, OSError) as error:
        return failure(case.name, paths, str(error))


def _placed(pair: Pair, prediction: VoxelMap, any_value: bool) -> tuple[VoxelMap, str]:
    """The reference on the grid of its prediction, and what is to be said of that.

    A reference whose affine is not that of its scan (volume 53 of LiTS, as published) is placed like the scan where
    the prediction is: `prepare` and `predict`, too, take voxels by their index and the grid of the scan.
    """
    reference = read_label_map(pair.reference, any_value=any_value)
    apart = _apart(prediction, reference, pair.reference.name)
    if not apart:
        return reference, ''
    if pair.scan:
        placed = read_label_map(pair.reference, like=pair.scan, any_value=any_value)
        if not _apart(prediction, placed, ''):
            return placed, (
                f'{plain(pair.name)}: its affine is not that of its scan {plain(pair.scan.name)}, which the prediction '
                'has; voxels are taken by their index, the spacing is that of the scan'
            )
    else:
        apart += ', or put the scan (volume-N) beside the reference if that has the grid of the prediction'
    raise UserError(f'{pair.prediction}: {apart}')


def _apart(prediction: VoxelMap, reference: VoxelMap, name: str) -> str:
    """Why the grids of a prediction and of the reference of this name do not agree; '' where they do.

    No voxel may lie half a voxel or more from its partner, both being in the canonical frame.
    """
    sizes = ['x'.join(map(str, each.values.shape)) for each in (prediction, reference)]
    if sizes[0] != sizes[1]:
        return (
            f'{sizes[0]} voxels (slices, rows, columns), but {name} has {sizes[1]}; expected the grid of the reference'
        )
    ends = np.array(reference.values.shape) - 1
    corners = np.array([[*(ends * corner), 1] for corner in np.ndindex(2, 2, 2)])
    apart = float(np.linalg.norm(corners @ (prediction.affine - reference.affine).T, axis=1).max())
    if apart < min(reference.spacing) / 2:
        return ''
    return (
        f'its affine puts voxels up to {apart:.3g} mm from those of {name}; '
        'expected the grid of the reference, write the prediction with its affine'
    )


def _candidates(path: Path, name: Path, reference: VoxelMap) -> Any:
    """What FROC needs of a case; its probabilities must lie on the grid of the reference."""
    check_readable(path)
    probabilities = read_probabilities(path)
    apart = _apart(probabilities, reference, name.name)
    if apart:
        raise UserError(f'{path}: {apart}')
    return find_candidates(probabilities.values, reference.values == 2)


def _froc(cases: Sequence[dict[str, Any]], probabilities: Path | None, notes: list[str]) -> dict[str, Any]:
    """'froc' where there are probabilities; adds to the notes where it is not of all cases."""
    if not probabilities or not cases:
        return {}
    if 'tumor' not in cases[0]['pooled']['voxels']:
        notes.append('--probabilities: FROC is of tumours, which are not scored')
        return {}
    found = [case['pooled']['candidates'] for case in cases if 'candidates' in case['pooled']]
    if len(found) < len(cases):
        missing = ', '.join(case['case'] for case in cases if 'candidates' not in case['pooled'])
        notes.append(f'FROC is of {len(found)} of {len(cases)} cases; --probabilities has no file for {missing}')
    return {'froc': describe_froc(froc(found), len(found))} if found else {}


def _known(prediction: Path) -> dict[str, str] | None:
    """Part of the split and case that a scan was of the network's own, as the manifest of `predict` says."""
    try:
        entries = json.loads((prediction.parent / 'manifest.json').read_text())['cases']
        return next((each.get('known') for each in entries if each['case'] == stem(prediction)), None)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None  # no folder of ours


def _known_notes(cases: Sequence[dict[str, Any]]) -> list[str]:
    known = [case for case in cases if case['known']]
    if not known:
        return []
    names = ', '.join(f'{case["case"]} ({KNOWN.get(case["known"]["part"], "known")})' for case in known)
    rest = 'see the means without them' if len(known) < len(cases) else 'nothing here is new to it'
    return [f'WARNING: {len(known)} of {len(cases)} scans are known to the network from its training: {names}; {rest}']


def _together(cases: Sequence[dict[str, Any]]) -> dict[str, Any]:
    mean, count = mean_scores(cases)
    return {'mean': mean, 'count': count, 'global': pool(cases) if cases else {}}


def _any_tumor(paths: Iterable[Path]) -> bool:
    """Whether a reference that can be read has label 2."""
    for path in paths:
        try:
            if (read_label_map(path).values == 2).any():
                return True
        except (UserError, OSError):
            continue  # said when it is scored
    return False


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
