"""Small volumes that a small network learns in seconds: a bright disc of liver, a darker lesion, noise."""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np

from configs import default
from liver_jax.config import Config, config_from
from liver_jax.data.formats.nifti import write_nifti

SIDE = 32
AFFINE = np.diag([-1.5, 1.5, 4.0, 1.0])


def write_case(folder: Path, number: int, seed: int | None = None, slices: int = 8) -> None:
    """volume-N.nii.gz and segmentation-N.nii.gz: slices of 32x32, the middle ones with a lesion."""
    rng = np.random.default_rng(number if seed is None else seed)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    hu = np.full((SIDE, SIDE, slices), -1000.0)
    labels = np.zeros((SIDE, SIDE, slices), np.uint8)
    centre = np.array([14, 14]) + rng.integers(-2, 3, 2)
    lesion = centre + rng.integers(-3, 4, 2)
    for k in range(slices):
        body = (rows - 16) ** 2 + (columns - 16) ** 2 < 15**2
        liver = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < 8**2
        tumour = ((rows - lesion[0]) ** 2 + (columns - lesion[1]) ** 2 < 3.2**2) & (2 <= k < slices - 1)
        for where, value in ((body, 20.0), (liver, 110.0), (tumour, 0.0)):
            hu[where, k] = value
        labels[liver, k] = 1
        labels[tumour, k] = 2
    hu += rng.normal(0, 8, hu.shape)
    write_nifti(folder / f'volume-{number}.nii.gz', hu.astype(np.int16), AFFINE)
    write_nifti(folder / f'segmentation-{number}.nii.gz', labels, AFFINE)


def write_cases(folder: Path, count: int) -> Path:
    """Cases 0 … count - 1 in `folder`."""
    for number in range(count):
        write_case(folder, number)
    return folder


def small_config(raw: Path, store: Path, **overrides: Any) -> Config:
    """A configuration that trains in seconds; overrides as `train_epochs=3`, the first underscore being the dot."""
    values = default.get_config().unlock()
    small = {
        'data_raw': str(raw),
        'data_store': str(store),
        'data_image_size': SIDE,
        'data_workers': 1,
        'model_width': 8,
        'model_depth': 1,
        'optim_learning_rate': 3e-3,
        'train_batch_size': 8,
        'train_epochs': 3,
        'train_log_every_steps': 2,
        'eval_batch_size': 8,
    }
    for name, value in (small | overrides).items():
        part, _, field = name.partition('_')
        if field:
            values[part][field] = value
        else:
            values[part] = value
    return config_from(values.to_dict())


def command(name: str, config: Config, workdir: Path) -> list[str]:
    """`python -m liver_jax NAME` with the default config and every field of `config` as an override."""
    overrides = [
        f'--config.{field}={value}' if not isinstance(values, dict) else f'--config.{part}.{field}={value}'
        for part, values in dataclasses.asdict(config).items()
        for field, value in (values.items() if isinstance(values, dict) else [(part, values)])
    ]
    file = Path(default.__file__)
    return [sys.executable, '-m', 'liver_jax', name, f'--config={file}', *overrides, f'--workdir={workdir}']
