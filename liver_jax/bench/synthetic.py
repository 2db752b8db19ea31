"""A slice store of random bytes: as much work for the machine as a real one, and there in a second."""

from pathlib import Path

import numpy as np

from liver_jax.config import DataConfig
from liver_jax.data.prepare import store_settings
from liver_jax.data.store import SliceStore, write_part, write_store

PATIENTS = 10


def synthetic_store(folder: Path, slices: int, config: DataConfig) -> SliceStore:
    """A store of about `slices` slices of ten patients in `folder`, with the settings of `config`."""
    rng, settings = np.random.default_rng(0), store_settings(config)
    parts, cases = [], []
    each = max(1, slices // PATIENTS)
    shape = each, config.image_size, config.image_size
    for number in range(PATIENTS):
        images, liver, tumor = (rng.integers(0, 256, shape, np.uint8) for _ in range(3))
        entries = [{'slice': index, 'liver_mm2': 1.0, 'tumor_mm2': 1.0} for index in range(each)]
        name = f'random-{number}'
        about = {'name': name, 'patient': name, 'content_sha256': name, 'spacing_mm': [1.0, 1.0, 1.0]}
        cases.append({**about, 'slices': entries})
        parts.append(folder / 'parts' / f'{number}')
        parts[-1].parent.mkdir(parents=True, exist_ok=True)
        arrays = {'images': images, 'liver': np.maximum(liver, tumor), 'tumor': tumor}
        write_part(parts[-1], arrays, cases[-1], settings, None)
    write_store(folder / 'store', settings, 'random bytes', [], cases, parts, folder / 'working')
    return SliceStore(folder / 'store')
