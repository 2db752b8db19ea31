"""The scores beside those of MONAI, torchmetrics and medpy, on random anisotropic masks; `make test-peers` runs it.

They are a gigabyte, so they have an environment of their own, without JAX; parity with scikit-image, scikit-learn and
surface-distance is in tests/metrics. Where a library defines a score otherwise, what it is made of is compared.
"""

import itertools

import numpy as np
import pytest
import torch
from medpy.metric import binary
from monai.metrics import DiceMetric, MeanIoU, compute_surface_dice
from scipy import ndimage
from torchmetrics.functional.segmentation import dice_score

from liver_jax.metrics.surfaces import border, surface_scores
from liver_jax.metrics.volumetry import count_voxels, volume_scores

SPACING = (2.5, 0.7, 0.9)
SEEDS = range(12)
pytestmark = pytest.mark.filterwarnings('default')  # theirs are no business of ours


def masks(seed):
    """Prediction and reference: blobs of any shape, neither empty."""
    rng = np.random.default_rng(seed)
    made = []
    for shift in (0, 1):
        noise = ndimage.gaussian_filter(rng.normal(size=(12, 20, 18)), 1.5)
        made.append(np.roll(noise > np.quantile(noise, 0.85), shift, axis=1))
    return made


def one_hot(mask):
    """[1, 2, ...]: background and mask, as MONAI has it."""
    return torch.from_numpy(np.stack([~mask, mask])[None].astype(np.float32))


def volumes(prediction, reference):
    return volume_scores(count_voxels(prediction, reference))


@pytest.mark.parametrize('seed', SEEDS)
def test_monai(seed):
    prediction, reference = masks(seed)
    scores, pair = volumes(prediction, reference), (one_hot(prediction), one_hot(reference))
    assert scores['dice'] == pytest.approx(DiceMetric(include_background=False)(*pair).item(), abs=1e-6)
    assert scores['voe'] == pytest.approx(1 - MeanIoU(include_background=False)(*pair).item(), abs=1e-6)
    surface = compute_surface_dice(*pair, class_thresholds=[1.0], spacing=SPACING, use_subvoxels=True)
    assert surface_scores(prediction, reference, SPACING)['nsd_1mm'] == pytest.approx(surface.item(), abs=1e-6)


@pytest.mark.parametrize('seed', SEEDS)
def test_torchmetrics(seed):
    prediction, reference = masks(seed)
    pair = (one_hot(prediction).int(), one_hot(reference).int())
    dice = dice_score(*pair, num_classes=2, include_background=False, input_format='one-hot').mean().item()
    assert volumes(prediction, reference)['dice'] == pytest.approx(dice, abs=1e-6)


@pytest.mark.parametrize('seed', SEEDS)
def test_medpy(seed):
    prediction, reference = masks(seed)
    scores, surfaces = volumes(prediction, reference), surface_scores(prediction, reference, SPACING)
    assert scores['dice'] == pytest.approx(binary.dc(prediction, reference), abs=1e-9)
    assert scores['voe'] == pytest.approx(1 - binary.jc(prediction, reference), abs=1e-9)
    assert scores['rvd'] == pytest.approx(binary.ravd(prediction, reference), abs=1e-9)
    how = {'voxelspacing': SPACING, 'connectivity': 2}
    assert surfaces['msd'] == pytest.approx(binary.hd(prediction, reference, **how), abs=1e-9)
    # Its assd is the mean of both directions' means; ours pools the border voxels of both.
    parts = [
        (binary.asd(*pair, **how), border(pair[0]).sum()) for pair in itertools.permutations((prediction, reference))
    ]
    pooled = sum(mean * count for mean, count in parts) / sum(count for _, count in parts)
    assert surfaces['assd'] == pytest.approx(pooled, abs=1e-9)
