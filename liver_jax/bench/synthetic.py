"""A slice store of synthetic CT: as many slices as a real one has, and there in seconds."""

from functools import lru_cache
from pathlib import Path

import numpy as np

from liver_jax.config import DataConfig
from liver_jax.data.phantom import make_phantom
from liver_jax.data.prepare import store_settings
from liver_jax.data.slices import prepare_slice
from liver_jax.data.store import SliceStore, write_part, write_store

PATIENTS = 10
SOURCE = 'synthetic CT'  # what the manifest says of the patients


def synthetic_store(folder: Path, slices: int, config: DataConfig) -> SliceStore:
    """A store of about `slices` slices of ten patients in `folder`, with the settings of `config`.

    All are slices of one synthetic scan with liver in them, each moved and mirrored by chance so that no two are alike.
    """
    rng, settings = np.random.default_rng(0), store_settings(config)
    parts, cases = [], []
    each = max(1, slices // PATIENTS)
    scan = _scan(config.image_size, tuple(config.window), config.masks)
    for number in range(PATIENTS):
        drawn = rng.integers(0, len(scan['images']), each)
        moves, mirrored = rng.integers(-8, 9, (each, 2)), rng.random(each) < 0.5
        arrays = {name: _moved(planes[drawn], moves, mirrored) for name, planes in scan.items()}
        entries = [{'slice': index, 'liver_mm2': 1.0, 'tumor_mm2': 1.0} for index in range(each)]
        name = f'synthetic-{number}'
        about = {'name': name, 'patient': name, 'content_sha256': name, 'spacing_mm': [1.0, 1.0, 1.0]}
        cases.append({**about, 'slices': entries})
        parts.append(folder / 'parts' / f'{number}')
        parts[-1].parent.mkdir(parents=True, exist_ok=True)
        write_part(parts[-1], arrays, cases[-1], settings, None)
    write_store(folder / 'store', settings, SOURCE, [], cases, parts, folder / 'working')
    return SliceStore(folder / 'store')


@lru_cache(1)
def _scan(side: int, window: tuple[float, float], masks: str) -> dict[str, np.ndarray]:
    """The prepared slices with liver of one synthetic scan, uint8 [slices, side, side] by name."""
    phantom = make_phantom(0, 0)
    turned = (array[:, ::-1].transpose(2, 1, 0) for array in (phantom.hu, phantom.labels))  # as in a store: LAS -> SPL
    made = [prepare_slice(hu, labels, window, side, masks) for hu, labels in zip(*turned, strict=True) if labels.any()]
    return {name: np.stack([each[name] for each in made]) for name in made[0]}


def _moved(planes: np.ndarray, moves: np.ndarray, mirrored: np.ndarray) -> np.ndarray:
    planes = np.where(mirrored[:, None, None], planes[:, :, ::-1], planes)
    return np.stack([np.roll(plane, move, (0, 1)) for plane, move in zip(planes, moves, strict=True)])
