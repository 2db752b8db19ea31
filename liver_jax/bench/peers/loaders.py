"""Augmented batches on the device: ours beside MONAI's data loader, in turns."""

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from liver_jax.bench.peers.monai_loader import MonaiLoader
from liver_jax.bench.timing import in_turns, rate, ratio
from liver_jax.config import Config
from liver_jax.data.store import SliceStore
from liver_jax.training.feed import Feed

SLICES = 1024  # at most: MONAI's workers get a copy each
ENDLESS = 10**9  # steps


def bench_loaders(config: Config, store: SliceStore, mesh: Mesh, seconds: float) -> dict[str, Any]:
    """Slices per second of both on the same slices, and how many times as fast ours is."""
    rows, size = np.arange(min(SLICES, len(store))), config.train.batch_size
    feed = Feed(config, store, rows, mesh, ENDLESS)
    monai = MonaiLoader(store.images(rows), store.masks(rows, config.data.target), config.augment, size)

    def ours(calls: int) -> None:
        for _ in range(calls):
            batch = feed.next_batch(None)
        jax.block_until_ready(batch)

    try:
        ahead = 2 * monai.workers + 1  # what was made while the other side had its turn
        turns = in_turns({'ours': ours, 'monai': monai}, seconds, unmeasured=ahead)
    finally:
        feed.close()
        monai.close()
    return {
        'workers': monai.workers,
        'ours': rate(turns['ours'].seconds, size),
        'monai': rate(turns['monai'].seconds, size),
        'ours_to_it': ratio(turns['ours'].seconds, turns['monai'].seconds),
    }
