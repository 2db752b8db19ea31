"""Connected pieces of tumour in a scan, counted plane by plane; neighbours are all 26 around a voxel."""

import dataclasses

import numpy as np
from scipy import ndimage

_AROUND = np.ones((3, 3), bool)


@dataclasses.dataclass
class Lesion:
    """One piece: its `voxels`, and whether any of them has a voxel of liver beside it."""

    voxels: int
    in_liver: bool


class LesionCounter:
    """Collects the label planes of one scan, from the feet up or from the head down."""

    def __init__(self) -> None:
        """Nothing seen yet."""
        self._lesions: list[Lesion] = []
        self._merged_into: list[int] = []
        self._before: np.ndarray | None = None  # numbers of the lesions in the plane before, 0 where there is none
        self._liver_before: np.ndarray | None = None

    def add(self, labels: np.ndarray) -> None:
        """The next plane, uint8 [rows, columns] in {0, 1, 2}."""
        liver = ndimage.binary_dilation(labels == 1, _AROUND) if (labels == 1).any() else None
        if self._before is not None and liver is not None:
            self._touch(self._before[liver])
        tumour = labels == 2
        self._before = self._number(tumour) if tumour.any() else None
        if self._before is not None:
            for near in (liver, self._liver_before):
                if near is not None:
                    self._touch(self._before[near])
        self._liver_before = liver

    def finish(self) -> list[Lesion]:
        """All pieces."""
        return [lesion for number, lesion in enumerate(self._lesions) if self._merged_into[number] == number]

    def _number(self, tumour: np.ndarray) -> np.ndarray:
        """Numbers (from 1) of the pieces of a plane, pieces that touch one of the plane before joined with it."""
        pieces, count = ndimage.label(tumour, _AROUND)
        first = len(self._lesions)
        for voxels in np.bincount(pieces.ravel(), minlength=count + 1)[1:]:
            self._merged_into.append(len(self._lesions))
            self._lesions.append(Lesion(int(voxels), False))
        numbers = np.where(tumour, pieces + first, 0)
        if self._before is not None:
            for rows in (slice(None), slice(1, None), slice(None, -1)):
                for columns in (slice(None), slice(1, None), slice(None, -1)):
                    here, there = numbers[rows, columns], self._before[_other(rows), _other(columns)]
                    both = (here > 0) & (there > 0)
                    pairs = here[both].astype(np.int64) << 32 | there[both]  # one number each: far quicker to sort
                    for pair in np.unique(pairs).tolist():
                        self._join((pair >> 32) - 1, (pair & 0xFFFFFFFF) - 1)
        return numbers

    def _root(self, number: int) -> int:
        while self._merged_into[number] != number:
            number = self._merged_into[number]
        return number

    def _join(self, one: int, other: int) -> None:
        one, other = self._root(one), self._root(other)
        if one != other:
            kept, gone = self._lesions[other], self._lesions[one]
            kept.voxels, kept.in_liver = kept.voxels + gone.voxels, kept.in_liver or gone.in_liver
            self._merged_into[one] = other

    def _touch(self, numbers: np.ndarray) -> None:
        for number in np.unique(numbers[numbers > 0]).tolist():
            self._lesions[self._root(number - 1)].in_liver = True


def _other(part: slice) -> slice:
    """The part of a plane that lies beside `part` of its neighbour, one voxel on."""
    return {(None, None): slice(None), (1, None): slice(None, -1), (None, -1): slice(1, None)}[part.start, part.stop]
