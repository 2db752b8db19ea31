"""Lesions of a case on the network's grid, and how well each was found."""

import dataclasses

import numpy as np
from scipy import ndimage

RULE = (
    'A lesion is a connected piece of the truth (3D, all 26 neighbours) in the slices of the store, on the network’s '
    'grid; its diameter is that of a sphere of its volume. Its Dice counts the test slices: it is that with the '
    'predicted pieces that touch it, less what of them lies in other lesions; 0 where none does.'
)
_AROUND = np.ones((3, 3, 3), bool)


@dataclasses.dataclass(frozen=True)
class Lesion:
    """`position` is of the test slice with most of it, `box` its top, left, bottom, right there (end exclusive)."""

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
    truth: np.ndarray,
    indices: np.ndarray,
    predictions: dict[str, np.ndarray],
    tested: np.ndarray,
    spacing: tuple[float, float, float],
) -> tuple[list[Lesion], dict[str, int]]:
    """Lesions of which something is in the test slices, the worst found first; per network the pieces that touch none.

    Args:
        truth: bool [slices, H, W], all there are of the case.
        indices: Where each lies in the scan, ascending; what is not neighbouring there is not connected.
        predictions: bool [test slices, H, W] by network.
        tested: Where each test slice lies in the scan, ascending, all among `indices`.
        spacing: mm between slices, rows and columns.
    """
    whole, count = _pieces(truth, indices - indices[0])
    voxels = np.bincount(whole.ravel(), minlength=count + 1)
    numbers = whole[tested - indices[0]]
    dice, false = {}, {}
    for network, masks in predictions.items():
        pieces, found = _pieces(masks, tested - tested[0])
        pieces = pieces[tested - tested[0]]
        marked = (numbers > 0) | (pieces > 0)
        pairs = numbers[marked].astype(np.int64) * (found + 1) + pieces[marked]
        shared = np.bincount(pairs, minlength=(count + 1) * (found + 1)).reshape(count + 1, found + 1)
        dice[network], false[network] = _lesion_dice(shared)
    lesions = []
    for number, where in enumerate(ndimage.find_objects(numbers, count), 1):
        if where is None:
            continue
        inside = numbers[where] == number
        place = int(inside.sum((1, 2)).argmax())
        rows, columns = (np.flatnonzero(inside[place].any(axis)) for axis in (1, 0))
        top, left = where[1].start, where[2].start
        mm3 = float(voxels[number] * np.prod(spacing))
        lesions.append(
            Lesion(
                mm3 / 1000,
                float(np.cbrt(6 * mm3 / np.pi)),
                where[0].start + place,
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
    return numbers, count


def _lesion_dice(shared: np.ndarray) -> tuple[np.ndarray, int]:
    """Dice of each lesion, and pieces that touch none, of voxels [lesion or 0, piece or 0]; NaN of a lesion without."""
    inside, outside = shared[1:, 1:], shared[0, 1:]
    common = inside.sum(1)
    beyond = (inside > 0) @ outside
    whole = shared[1:].sum(1) + common + beyond
    dice = np.divide(2 * common, whole, out=np.full(len(whole), np.nan), where=whole > 0)
    return dice, int((inside.sum(0) == 0).sum())
