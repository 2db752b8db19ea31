"""Volume-level scores of networks on whole scans, at the scans' own resolution: LiTS's and more, lesions, FROC.

`score_scan` is called while a scan's predictions are at hand; `describe_volumes` makes plain data of all scans, folds
joined and seeds averaged.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from liver_jax.data.volumes import Scan
from liver_jax.evaluation.baselines import target_of
from liver_jax.evaluation.score_volumes import RULES, add_burden, mean_scores, pool, score_volume
from liver_jax.metrics.froc import FLOOR, Candidates, describe_froc, find_candidates, froc
from liver_jax.metrics.geometry import bounding_box
from liver_jax.metrics.volumetry import mean

STEPS = 65535  # probabilities are held as uint16
TUMOR = 'tumor'
TARGET_RULES = {
    'tumor': {
        'burden': 'tumour voxels / liver voxels of the reference (tumour included): the network looks for tumour alone'
    },
    'liver': {'labels': 'liver is label 1 alone, tumour excluded, as the target of the network is'},
}
NO_PARTS = 'volumes are scored whole, and split by slice their slices are in several parts'


@dataclasses.dataclass(frozen=True)
class ScanScores:
    """What one scan has: by network the results of `score_volume`, and FROC's candidates for the target tumour."""

    case: str
    patient: str
    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    scores: Mapping[str, dict[str, Any]]
    candidates: Mapping[str, Candidates]

    def only(self, name: str) -> 'ScanScores':
        """Of one of the networks."""
        candidates = {own: each for own, each in self.candidates.items() if own == name}
        return dataclasses.replace(self, scores={name: self.scores[name]}, candidates=candidates)


class WholePrediction:
    """A network's prediction of a scan as it comes, plane by plane: a mask, and probabilities where FROC needs them."""

    def __init__(self, size: tuple[int, int, int], threshold: float, target: str) -> None:
        """For a scan of `size`; `threshold` on the probability is that of the mask."""
        self.mask = np.zeros(size, bool)
        self.steps = np.zeros(size if target == TUMOR else (0, 0, 0), np.uint16)
        self._threshold = threshold

    def add(self, index: int, probability: np.ndarray) -> None:
        """The next plane, float32 [rows, columns]."""
        self.mask[index] = probability >= self._threshold
        if self.steps.size:
            self.steps[index] = np.rint(probability * STEPS)

    def candidates(self, reference: np.ndarray) -> Candidates:
        """FROC's candidates, beside a boolean reference."""
        box = bounding_box(self.steps >= FLOOR * STEPS, reference)
        return find_candidates(self.steps[box].astype(np.float32) / STEPS, reference[box])


def score_scan(
    scan: Scan, patient: str, labels: np.ndarray, target: str, predictions: Mapping[str, WholePrediction]
) -> ScanScores:
    """All scores of the networks' predictions of a scan with these labels [slices, rows, columns] in {0, 1, 2}."""
    value, scored = (2, TUMOR) if target == TUMOR else (1, 'liver')
    reference = target_of(labels, target)
    scores, candidates = {}, {}
    for name, prediction in predictions.items():
        mine, theirs = (mask.view(np.uint8) * np.uint8(value) for mask in (prediction.mask, reference))
        scores[name] = score_volume(mine, theirs, scan.spacing, (scored,))
        if target == TUMOR:
            add_burden(scores[name], int(np.count_nonzero(labels)))
            candidates[name] = prediction.candidates(reference)
    return ScanScores(scan.case.name, patient, scan.size, scan.spacing, scores, candidates)


def describe_volumes(
    trained: Sequence[Sequence[ScanScores]], target: str, threshold: float, note: str
) -> dict[str, Any]:
    """By seed all scans of all folds -> `networks` (each: `mean`, `count`, `global`, `froc`), `cases`, rules, note.

    A case has `scores` by network and, for the target tumour, `lesions`: an entry per reference lesion, with `dice` and
    `found_RULE` (the share of seeds) by network. Seeds are averaged, undefined scores left out.
    """
    scans = trained[0]
    names = list(scans[0].scores) if scans else []
    rules = RULES | TARGET_RULES.get(target, {})
    return {
        'note': note,
        'target': target,
        'threshold': threshold,
        'rules': rules if scans else {},
        'networks': {name: _mean_of([_network(seed, name) for seed in trained]) for name in names},
        'cases': [_case([seed[number] for seed in trained]) for number in range(len(scans))],
    }


def _network(scans: Sequence[ScanScores], name: str) -> dict[str, Any]:
    own = [scan.scores[name] for scan in scans]
    average, count = mean_scores(own)
    found = {'mean': average, 'count': count, 'global': pool(own)}
    candidates = [scan.candidates[name] for scan in scans if scan.candidates]
    return found | ({'froc': describe_froc(froc(candidates), len(candidates))} if candidates else {})


def _case(seeds: Sequence[ScanScores]) -> dict[str, Any]:
    first = seeds[0]
    scores = {
        name: _mean_of([{key: value for key, value in seed.scores[name].items() if '.' in key} for seed in seeds])
        for name in first.scores
    }
    about = {'case': first.case, 'patient': first.patient, 'size': list(first.size), 'spacing_mm': list(first.spacing)}
    lesions = [_lesion([_by_network(seed, number) for seed in seeds]) for number in range(_lesions(first))]
    return about | {'scores': scores} | ({'lesions': lesions} if first.candidates else {})


def _lesions(scan: ScanScores) -> int:
    return len(next(iter(scan.scores.values())).get('lesions', ()))


def _by_network(scan: ScanScores, number: int) -> dict[str, dict[str, Any]]:
    return {name: scores['lesions'][number] for name, scores in scan.scores.items()}


def _lesion(seeds: Sequence[Mapping[str, dict[str, Any]]]) -> dict[str, Any]:
    """A reference lesion, the same in every network and seed, with what each network made of it."""
    names, first = list(seeds[0]), next(iter(seeds[0].values()))
    own = ('volume_ml', 'diameter_mm', 'slice', 'box')
    found = [key for key in first if key not in (*own, 'dice')]
    return {
        **{key: first[key] for key in own},
        'dice': {name: mean([seed[name]['dice'] for seed in seeds]) for name in names},
        **{key: {name: mean([seed[name][key] for seed in seeds]) for name in names} for key in found},
    }


def _mean_of(results: Sequence[Any]) -> Any:
    """The mean of results of one form, number by number; what does not vary stays as it is."""
    first = results[0]
    if len(results) == 1:
        return first
    if isinstance(first, dict):
        return {key: _mean_of([each[key] for each in results]) for key in first}
    if isinstance(first, list):
        return [_mean_of(list(each)) for each in zip(*results, strict=True)]
    return first if all(each == first for each in results) else mean(results)
