"""Structural similarity of masks on the host; the one importer of scikit-image."""

import numpy as np
from skimage.metrics import structural_similarity


def ssim_masks(prediction: np.ndarray, reference: np.ndarray) -> float:
    """SSIM (Wang et al., IEEE TIP 2004; 7x7 uniform window, data range 1) of two boolean masks [H, W].

    Most of a mask is background in both, so an empty prediction already scores high: read it beside the all-zero
    baseline.
    """
    return float(structural_similarity(prediction.astype(np.float32), reference.astype(np.float32), data_range=1.0))
