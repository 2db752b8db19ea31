"""Slices from MONAI's data loader, with its transforms for what our augmentation does. No JAX: workers import this."""

import math
import os
from typing import Any

import numpy as np
import torch
from monai import transforms
from monai.data import DataLoader, Dataset
from torch.utils.data import RandomSampler

from liver_jax.config import AugmentConfig

BOTH, IMAGE = ('image', 'mask'), ('image',)
LINEAR, ZERO = 'bilinear', 'zeros'
ENDLESS = 10**9  # slices


class MonaiLoader:
    """Augmented batches on the device, from slices in memory. A `timing.Side`; close it at the end."""

    def __init__(self, images: np.ndarray, masks: np.ndarray, config: AugmentConfig, batch_size: int) -> None:
        """uint8 images and masks [slices, H, W]; as many workers as there are cores, 8 at most."""
        slices = [{'image': image[None], 'mask': mask[None]} for image, mask in zip(images, masks, strict=True)]
        self.workers = min(8, os.cpu_count() or 1)
        loader = DataLoader(
            Dataset(slices, transform(config, images.shape[-1])), batch_size=batch_size, num_workers=self.workers,
            sampler=RandomSampler(slices, replacement=True, num_samples=ENDLESS), multiprocessing_context='spawn',
        )  # fmt: skip
        self._device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
        self._batches = iter(loader)

    def __call__(self, calls: int) -> None:
        """Take so many batches, and wait until they are on the device."""
        for _ in range(calls):
            batch = next(self._batches)
            self._latest = [batch[name].as_tensor().to(self._device) for name in BOTH]
        if self._device.type == 'cuda':
            torch.cuda.synchronize()

    def close(self) -> None:
        """End the workers, as the end of their iterator does."""
        del self._batches


def transform(config: AugmentConfig, side: int) -> Any:
    """The transforms of a config on uint8 [1, side, side], as one would write them in MONAI.

    Rotation, zoom and shift are one resampling there, so one probability: that of any of them here. Those of the preset
    `light` are there; `torch_step.SUPPORTED` says so of others.
    """
    turn, (low, high) = math.radians(config.rotate_degrees), config.scale_range
    affine = 1 - (1 - config.rotate) * (1 - config.scale) * (1 - config.shift)
    shift, spacing = config.shift_fraction * side, side / (config.elastic_grid - 1)
    bend, contrast = config.elastic_fraction * side, config.contrast_range
    return transforms.Compose(
        [
            transforms.ScaleIntensityRanged(BOTH, 0, 255, 0, 1),
            transforms.RandFlipd(BOTH, config.flip, spatial_axis=1),
            transforms.RandAffined(
                BOTH, prob=affine, rotate_range=turn, scale_range=[(low - 1, high - 1)] * 2, translate_range=shift,
                mode=LINEAR, padding_mode=ZERO,
            ),
            transforms.Rand2DElasticd(
                BOTH, (spacing, spacing), (bend, bend), prob=config.elastic, mode=LINEAR, padding_mode=ZERO
            ),
            transforms.RandGaussianNoised(IMAGE, config.noise, std=config.noise_std),
            transforms.RandShiftIntensityd(IMAGE, config.brightness_delta, prob=config.brightness),
            transforms.RandScaleIntensityFixedMeand(
                IMAGE, prob=config.contrast, factors=(contrast[0] - 1, contrast[1] - 1), preserve_range=True
            ),
            transforms.RandAdjustContrastd(IMAGE, config.gamma, config.gamma_range),
        ]
    )  # fmt: skip
