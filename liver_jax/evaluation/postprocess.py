"""What may be taken out of a predicted mask: specks, or all but the largest piece."""

import cc3d
import numpy as np

from liver_jax.metrics.geometry import bounding_box


def drop_small(mask: np.ndarray, voxels: float) -> None:
    """Clear, in place, the pieces of a mask [slices, rows, columns] that have fewer than so many voxels."""
    if voxels > 1 and mask.any():
        box = bounding_box(mask)
        mask[box] = cc3d.dust(np.ascontiguousarray(mask[box]), threshold=voxels, connectivity=26)


def keep_largest(mask: np.ndarray) -> None:
    """Clear, in place, all but the largest piece of a mask."""
    if mask.any():
        box = bounding_box(mask)
        mask[box] = cc3d.largest_k(np.ascontiguousarray(mask[box]), k=1, connectivity=26) > 0
