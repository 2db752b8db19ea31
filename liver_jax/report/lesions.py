"""Lesions of a case on the network's grid, and how well each was found."""

import dataclasses

import numpy as np
from scipy import ndimage

RULE = (
    'A lesion is a connected piece of the reference (3D, all 26 neighbours) within the test slices of a case, on the '
    'network’s grid. Its Dice is that with the predicted pieces that touch it, less what of them lies in other '
    'lesions; 0 where none does. Its diameter is that of a sphere of its volume.'
)
_AROUND = np.ones((3, 3, 3), bool)


@dataclasses.dataclass(frozen=True)
class Lesion:
    """`position` is that of the slice with most of it, `box` its top, left, bottom, right there (end exclusive)."""

    volume_ml: float
    diameter_mm: float
    position: int
    box: tuple[int, int, int, int]
    dice: dict[str, float]

    @property
    def mean_dice(self) -> float:
        """Over the networks."""
        return float(np.mean(list(self.dice.values())))


def find_lesions(
    truth: np.ndarray, predictions: dict[str, np.ndarray], indices: np.ndarray, spacing: tuple[float, float, float]
) -> tuple[list[Lesion], dict[str, int]]:
    """Lesions, the worst found first, and per network how many predicted pieces touch none.

    Args:
        truth: bool [slices, H, W].
        predictions: Of the same shape, by network.
        indices: Where each slice lies in the scan, ascending; what is not neighbouring there is not connected.
        spacing: mm between slices, rows and columns.
    """
    places = indices - indices[0]
    numbers, count = _pieces(truth, places)
    dice, false = {}, {}
    for network, masks in predictions.items():
        pieces, found = _pieces(masks, places)
        shared = np.bincount((numbers * (found + 1) + pieces).ravel(), minlength=(count + 1) * (found + 1))
        dice[network], false[network] = _lesion_dice(shared.reshape(count + 1, found + 1))
    lesions = []
    for number, where in enumerate(ndimage.find_objects(numbers), 1):
        inside = numbers[where] == number
        place = int(inside.sum((1, 2)).argmax())
        rows, columns = (np.flatnonzero(inside[place].any(axis)) for axis in (1, 0))
        top, left = where[1].start, where[2].start
        mm3 = float(inside.sum() * np.prod(spacing))
        lesions.append(
            Lesion(
                mm3 / 1000,
                float(np.cbrt(6 * mm3 / np.pi)),
                int(np.searchsorted(places, where[0].start + place)),
                (int(top + rows[0]), int(left + columns[0]), int(top + rows[-1] + 1), int(left + columns[-1] + 1)),
                {network: float(values[number - 1]) for network, values in dice.items()},
            )
        )
    return sorted(lesions, key=lambda lesion: (lesion.mean_dice, -lesion.volume_ml)), false


def _pieces(masks: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, int]:
    """Numbers of connected pieces [planes, H, W], with an empty plane for every slice of the scan that is not here."""
    volume = np.zeros((int(places[-1]) + 1, *masks.shape[1:]), bool)
    volume[places] = masks
    numbers, count = ndimage.label(volume, _AROUND)
    return numbers.astype(np.int64), count


def _lesion_dice(shared: np.ndarray) -> tuple[np.ndarray, int]:
    """Dice of each lesion, and pieces that touch none, of voxels [lesion or 0, piece or 0]."""
    inside, outside = shared[1:, 1:], shared[0, 1:]
    common = inside.sum(1)
    beyond = (inside > 0) @ outside
    return 2 * common / (shared[1:].sum(1) + common + beyond), int((inside.sum(0) == 0).sum())
