"""What the reader of every file format gives: planes on a grid, one after the other, so that no volume need be held."""

import dataclasses
from collections.abc import Callable, Generator
from pathlib import Path

import numpy as np


@dataclasses.dataclass(frozen=True)
class Raster:
    """An image (HU) or labels on a grid with the axes [i, j, k] of its file or files; k is the slowest.

    `affine` (4x4) takes indices to mm in RAS+, the frame of NIfTI. `planes()` yields the arrays [i, j] for k = 0, 1, …
    and raises UserError where the file is damaged; every call reads anew. `path` is for messages; `notes` are quirks
    of this file that were dealt with and that its owner should know of.
    """

    path: Path
    shape: tuple[int, int, int]
    affine: np.ndarray
    planes: Callable[[], Generator[np.ndarray, None, None]]
    notes: tuple[str, ...] = ()
