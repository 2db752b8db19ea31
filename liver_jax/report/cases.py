"""The cases of a test set as the page shows them: slices, truth and predictions on the network's grid, lesions."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from liver_jax.data.store import SliceStore
from liver_jax.evaluation.evaluate import HALF
from liver_jax.metrics.overlap import Counts, overlap_scores
from liver_jax.report.lesions import Lesion, find_lesions

# Names that our layouts give. Any other is a file's or a folder's own, and people name those after patients.
_PLAIN_NAME = re.compile(r'(volume|liver|case|phantom)[-_ ]?\d{1,6}')


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """One scan of the test part on the network's grid; `predictions`, `dice` and `slice_dice` by display name.

    `indices` are the slices counted from the feet, `spacing` mm between slices, rows and columns of the grid; `false`
    counts the predicted pieces that touch no lesion.
    """

    name: str
    patient: str
    indices: np.ndarray
    images: np.ndarray
    truth: np.ndarray
    predictions: dict[str, np.ndarray]
    spacing: tuple[float, float, float]
    dice: dict[str, float]
    slice_dice: dict[str, np.ndarray]
    lesions: list[Lesion]
    false: dict[str, int]

    @property
    def volume_ml(self) -> float:
        """Of the reference on these slices."""
        return float(self.truth.sum() * np.prod(self.spacing) / 1000)

    @property
    def mean_dice(self) -> float:
        """Over the networks; NaN where neither has one."""
        defined = [dice for dice in self.dice.values() if not np.isnan(dice)]
        return float(np.mean(defined)) if defined else float('nan')


def make_cases(
    store: SliceStore, rows: np.ndarray, predicted: Mapping[str, np.ndarray], target: str
) -> tuple[list[Case], dict[str, str], dict[str, str]]:
    """The cases of `rows` of a store, ascending; `predicted` are masks [rows, H, W], bool, by display name.

    Returns:
        The cases; real names of those that are shown under another, by that; what patients are called, by their names.
    """
    owners = np.array([store.rows[row].case for row in rows])
    names = list(dict.fromkeys(owners.tolist()))
    shown = {name: name if _PLAIN_NAME.fullmatch(name) else f'case {at}' for at, name in enumerate(names, 1)}
    patients = dict.fromkeys(store.rows[row].patient for row in rows)
    numbers = {patient: f'patient {number}' for number, patient in enumerate(patients, 1)}
    cases = []
    for name in names:
        chosen = np.flatnonzero(owners == name)
        masks = {network: values[chosen] for network, values in predicted.items()}
        cases.append(_make_case(store, rows[chosen], shown[name], numbers, masks, target))
    return cases, {new: name for name, new in shown.items() if new != name}, numbers


def _make_case(
    store: SliceStore,
    rows: np.ndarray,
    name: str,
    patients: dict[str, str],
    predictions: dict[str, np.ndarray],
    target: str,
) -> Case:
    own = store.rows[rows[0]]
    (entry,) = (case for case in store.manifest['cases'] if case['name'] == own.case)
    truth = store.masks(rows, target) >= HALF
    indices = np.array([store.rows[row].index for row in rows])
    spacing = grid_spacing(entry, store.manifest['settings']['image_size'])
    everywhere = np.array([row for row, each in enumerate(store.rows) if each.case == own.case])
    all_indices = np.array([store.rows[row].index for row in everywhere])
    all_truth = store.masks(everywhere, target) >= HALF
    lesions, false = find_lesions(all_truth, all_indices, predictions, indices, spacing)
    dice = {network: float(_dice(masks, truth, (0, 1, 2))) for network, masks in predictions.items()}
    slice_dice = {network: _dice(masks, truth, (1, 2)) for network, masks in predictions.items()}
    images = store.images(rows)
    return Case(
        name, patients[own.patient], indices, images, truth, predictions, spacing, dice, slice_dice, lesions, false
    )


def grid_spacing(case: dict[str, Any], side: int) -> tuple[float, float, float]:
    """Millimetres between slices, rows and columns once the padded plane has `side` pixels; 1 where unknown."""
    spacing = [float(value) for value in case.get('spacing_mm') or (1, 1, 1)]
    axes = zip(case.get('shape', ()), case.get('orientation') or '', strict=False)
    longest = max((size for size, letter in axes if letter in 'LRAP'), default=side)
    return spacing[0], spacing[1] * longest / side, spacing[2] * longest / side


def _dice(prediction: np.ndarray, truth: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    pairs = (prediction & truth, prediction & ~truth, ~prediction & truth, ~prediction & ~truth)
    return overlap_scores(Counts(*(np.sum(pair, axis=axes) for pair in pairs)))['dice']
