"""Draws of many slices as one array of records: one array to cut a batch from and to transfer, instead of ten.

No JAX here: grain's workers import this module. `training.feed` takes the records apart on the device.
"""

import numpy as np

from liver_jax.data.draws import Draws


def to_records(draws: Draws) -> np.ndarray:
    """Arrays [N, ...] by name -> [N] records with these fields; `records[name]` is the array again."""
    layout = np.dtype([(name, values.dtype, values.shape[1:]) for name, values in draws.items()])
    records = np.empty(len(next(iter(draws.values()))), layout)
    for name, values in draws.items():
        records[name] = values
    return records


def as_words(records: np.ndarray) -> np.ndarray:
    """Records [N] as uint32 [N, words]: devices know no records."""
    return records.view(np.uint32).reshape(len(records), -1)
