"""The cases of a test set as the page shows them: slices and masks on the network's grid, Dice, volume, lesions."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from liver_jax.data.store import SliceStore
from liver_jax.errors import UserError
from liver_jax.evaluation.evaluate import HALF
from liver_jax.metrics.overlap import Counts, overlap_scores
from liver_jax.report.lesions import Lesion, lesions_of_scan, lesions_of_slices
from liver_jax.report.tables import display_name

# Names that our layouts give. Any other is a file's or a folder's own, and people name those after patients.
_PLAIN_NAME = re.compile(r'(volume|liver|case|phantom)[-_ ]?\d{1,6}')


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """One scan of the test part on the network's grid; `predictions`, `dice` and `slice_dice` by display name.

    `indices` are the slices counted from the feet, `spacing` mm between slices, rows and columns of the grid.
    `volume_ml` (of the reference), `dice` and `lesions` are of the whole scan where these were scored, else of the
    slices.
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
    volume_ml: float
    lesions: list[Lesion]

    @property
    def mean_dice(self) -> float:
        """Over the networks; NaN where neither has one."""
        defined = [dice for dice in self.dice.values() if not np.isnan(dice)]
        return float(np.mean(defined)) if defined else float('nan')


def make_cases(
    store: SliceStore,
    rows: np.ndarray,
    predicted: Mapping[str, np.ndarray],
    target: str,
    volumes: Mapping[str, Any],
) -> tuple[list[Case], dict[str, str], dict[str, str]]:
    """The cases of `rows` of a store, ascending; `predicted` are masks [rows, H, W], bool, by display name.

    `volumes` are the scores of whole scans (`volumes` of the results); without cases, slices are measured instead.

    Returns:
        The cases; real names of those that are shown under another, by that; what patients are called, by their names.

    Raises:
        UserError: `volumes` are of other scans.
    """
    owners = np.array([store.rows[row].case for row in rows])
    names = list(dict.fromkeys(owners.tolist()))
    shown = {name: name if _PLAIN_NAME.fullmatch(name) else f'case {at}' for at, name in enumerate(names, 1)}
    patients = dict.fromkeys(store.rows[row].patient for row in rows)
    numbers = {patient: f'patient {number}' for number, patient in enumerate(patients, 1)}
    scans, cases = {entry['case']: entry for entry in volumes['cases']}, []
    if scans and (missing := set(names) - set(scans)):
        raise UserError(
            f'{min(missing)}: not among the scored volumes of the results; run the command that made them again'
        )
    for name in names:
        chosen = np.flatnonzero(owners == name)
        masks = {network: values[chosen] for network, values in predicted.items()}
        cases.append(_make_case(store, rows[chosen], shown[name], numbers, masks, target, scans.get(name)))
    return cases, {new: name for name, new in shown.items() if new != name}, numbers


def _make_case(
    store: SliceStore,
    rows: np.ndarray,
    name: str,
    patients: dict[str, str],
    predictions: dict[str, np.ndarray],
    target: str,
    scored: Mapping[str, Any] | None,
) -> Case:
    own = store.rows[rows[0]]
    (entry,) = (case for case in store.manifest['cases'] if case['name'] == own.case)
    truth = store.masks(rows, target) >= HALF
    indices = np.array([store.rows[row].index for row in rows])
    spacing = grid_spacing(entry, store.manifest['settings']['image_size'])
    if scored:
        dice, volume_ml = _of_scan(scored, target)
        lesions = lesions_of_scan(scored, indices, truth.shape[1])
    else:
        dice = {network: float(_dice(masks, truth, (0, 1, 2))) for network, masks in predictions.items()}
        volume_ml = float(truth.sum() * np.prod(spacing) / 1000)
        lesions = _of_slices(store, own.case, predictions, indices, spacing) if target == 'tumor' else []
    slice_dice = {network: _dice(masks, truth, (1, 2)) for network, masks in predictions.items()}
    images = store.images(rows)
    about = name, patients[own.patient], indices
    return Case(*about, images, truth, predictions, spacing, dice, slice_dice, volume_ml, lesions)


def _of_scan(scored: Mapping[str, Any], target: str) -> tuple[dict[str, float], float]:
    """Dice by display name (NaN: undefined), and ml of the reference."""
    kind, scores = ('tumor' if target == 'tumor' else 'liver'), scored['scores']
    dice = {network: own[f'{kind}.dice'] for network, own in scores.items()}
    volume_ml = next(iter(scores.values()))[f'{kind}.reference_ml']
    return {display_name(name): float('nan') if value is None else value for name, value in dice.items()}, volume_ml


def _of_slices(
    store: SliceStore,
    case: str,
    predictions: dict[str, np.ndarray],
    tested: np.ndarray,
    spacing: tuple[float, float, float],
) -> list[Lesion]:
    """Lesions as far as the store has them; those of a scan split by slice are whole nevertheless."""
    rows = np.array([row for row, each in enumerate(store.rows) if each.case == case])
    indices = np.array([store.rows[row].index for row in rows])
    return lesions_of_slices(store.masks(rows, 'tumor') >= HALF, indices, predictions, tested, spacing)


def grid_spacing(case: dict[str, Any], side: int) -> tuple[float, float, float]:
    """Millimetres between slices, rows and columns once the padded plane has `side` pixels; 1 where unknown."""
    spacing = [float(value) for value in case.get('spacing_mm') or (1, 1, 1)]
    axes = zip(case.get('shape', ()), case.get('orientation') or '', strict=False)
    longest = max((size for size, letter in axes if letter in 'LRAP'), default=side)
    return spacing[0], spacing[1] * longest / side, spacing[2] * longest / side


def _dice(prediction: np.ndarray, truth: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    pairs = (prediction & truth, prediction & ~truth, ~prediction & truth, ~prediction & ~truth)
    return overlap_scores(Counts(*(np.sum(pair, axis=axes) for pair in pairs)))['dice']
