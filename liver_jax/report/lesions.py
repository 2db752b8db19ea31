"""Lesions as the page lists them: those of whole scans as they were scored, else those of the stored slices.

Both by the definitions of `metrics.lesions`, so that a diameter or a Dice means the same wherever it stands.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from liver_jax.metrics.lesions import Lesions as Pieces
from liver_jax.metrics.lesions import find_lesions, find_pairs, lesion_dices, longest_axial_diameters
from liver_jax.report.tables import display_name

RULE = (
    'A lesion is a connected piece of the reference (3D, all 26 neighbours); its diameter is the longest in any axial '
    'slice. Its Dice is that with all predicted pieces that it meets, together; 0 where it meets none.'
)


@dataclasses.dataclass(frozen=True)
class Lesion:
    """`position` is of the test slice to look at, `box` its top, left, bottom, right on the network's grid (end
    exclusive); `dice` by display name.
    """

    volume_ml: float
    diameter_mm: float
    position: int
    box: tuple[int, int, int, int]
    dice: dict[str, float]

    @property
    def mean_dice(self) -> float:
        """Over the networks."""
        return float(np.mean(list(self.dice.values())))


def lesions_of_scan(scored: Mapping[str, Any], indices: np.ndarray, side: int) -> list[Lesion]:
    """The lesions of a whole scan, the worst found first.

    Args:
        scored: The scan's entry in `volumes.cases` of the results.
        indices: Where the test slices lie in the scan, from the feet.
        side: Of the network's grid.
    """
    _, *plane = scored['size']
    return _worst_first(
        Lesion(
            lesion['volume_ml'],
            lesion['diameter_mm'],
            int(np.abs(indices - lesion['slice']).argmin()),
            _on_grid(lesion['box'], plane, side),
            {display_name(network): float(dice) for network, dice in lesion['dice'].items()},
        )
        for lesion in scored.get('lesions', ())
    )


def lesions_of_slices(
    truth: np.ndarray,
    indices: np.ndarray,
    predictions: Mapping[str, np.ndarray],
    tested: np.ndarray,
    spacing: tuple[float, float, float],
) -> list[Lesion]:
    """The lesions of which something is in the test slices, the worst found first; their Dice is of these slices.

    Args:
        truth: bool [slices, H, W], all there are of the case.
        indices: Where each lies in the scan, ascending; what is not neighbouring there is not connected.
        predictions: bool [test slices, H, W] by network.
        tested: Where each test slice lies in the scan, ascending, all among `indices`.
        spacing: mm between slices, rows and columns.
    """
    planes = tested - indices[0]
    whole = find_lesions(_spread(truth, indices - indices[0], int(indices[-1] - indices[0]) + 1))
    diameters, _ = longest_axial_diameters(whole, spacing)
    numbers = np.zeros_like(whole.numbers)
    numbers[planes] = whole.numbers[planes]
    shown = Pieces(numbers, np.bincount(numbers.ravel(), minlength=len(whole.voxels) + 1)[1:], whole.boxes)
    dice = {}
    for network, masks in predictions.items():
        found = find_lesions(_spread(masks, planes, len(numbers)))
        with np.errstate(invalid='ignore'):  # a lesion without a test slice has none, and is left out below
            dice[network] = lesion_dices(shown, found, find_pairs(shown, found))
    ml = float(np.prod(spacing)) / 1000
    return _worst_first(
        Lesion(
            int(whole.voxels[i]) * ml,
            float(diameters[i]),
            int((numbers[planes] == i + 1).sum((1, 2)).argmax()),
            (box[1].start, box[2].start, box[1].stop, box[2].stop),
            {network: float(values[i]) for network, values in dice.items()},
        )
        for i, box in enumerate(whole.boxes)
        if shown.voxels[i]
    )


def _worst_first(lesions: Iterable[Lesion]) -> list[Lesion]:
    return sorted(lesions, key=lambda lesion: (lesion.mean_dice, -lesion.volume_ml))


def _spread(masks: np.ndarray, places: np.ndarray, length: int) -> np.ndarray:
    """With an empty plane for every slice of the scan that is not here."""
    volume = np.zeros((length, *masks.shape[1:]), bool)
    volume[places] = masks
    return volume


def _on_grid(box: list[int], plane: list[int], side: int) -> tuple[int, int, int, int]:
    """A box in pixels of a plane of [rows, columns] -> on the grid that the padded plane is resized to."""
    longest = max(plane)
    scale = side / longest
    top, left = ((longest - length) // 2 for length in plane)
    starts = [int((start + pad) * scale) for start, pad in zip(box[:2], (top, left), strict=True)]
    ends = [math.ceil((end + pad) * scale) for end, pad in zip(box[2:], (top, left), strict=True)]
    return starts[0], starts[1], ends[0], ends[1]
