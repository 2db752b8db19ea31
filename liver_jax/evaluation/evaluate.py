"""Scores of a network on rows of a store: counts on the device, SSIM on the host while the device goes on."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from jax.sharding import Mesh

from liver_jax.config import EvalConfig
from liver_jax.data.augment import to_unit
from liver_jax.data.store import SliceStore
from liver_jax.data.stream import eval_batches
from liver_jax.evaluation.scores import ImageScores
from liver_jax.metrics.losses import LossFn, binary_cross_entropy
from liver_jax.metrics.overlap import Counts, count_pixels
from liver_jax.metrics.ssim import ssim_masks
from liver_jax.runtime.interrupt import Interrupted, StopRequest, Wish
from liver_jax.runtime.mesh import batch_sharding, check_divisible, put_whole, replicated

HALF = 128  # of 0..255: a pixel at least half covered belongs to the reference mask
QUEUED = 1024  # slices that may wait for their SSIM
CHUNK = 1024  # slices held at a time
Variables = Any


class Evaluator:
    """Scores variables of `model` on `rows` of `store`, compiled once."""

    def __init__(
        self,
        model: nn.Module,
        store: SliceStore,
        rows: np.ndarray,
        target: str,
        config: EvalConfig,
        mesh: Mesh,
        loss: LossFn = binary_cross_entropy,
    ) -> None:
        """Raises UserError when the devices cannot share `config.batch_size` evenly."""
        check_divisible('eval.batch_size', config.batch_size, mesh)
        self._store, self._rows, self._target, self._mesh = store, rows, target, mesh
        self._batch_size = min(config.batch_size, -(-len(rows) // mesh.size) * mesh.size)
        self._step = jax.jit(
            partial(_eval_step, model, config.threshold, loss),
            in_shardings=(replicated(mesh), batch_sharding(mesh)),
            out_shardings=replicated(mesh),  # so that every process has the numbers of the whole batch
        )

    def run(self, variables: Variables, stop: StopRequest | None = None) -> ImageScores:
        """Scores of every row; raises Interrupted at the batch before which a signal asked for a `stop`."""
        counts, losses, ssim = [], [], []
        with ThreadPoolExecutor() as pool:
            for outputs, references, valid in self._outputs(variables):
                if stop and stop.reached() == Wish.INTERRUPT:
                    pool.shutdown(cancel_futures=True)
                    raise Interrupted('scoring was broken off')
                counts.append(np.stack(outputs['counts'], axis=-1)[valid])
                losses.append(outputs['loss'][valid])
                pairs = zip(outputs['prediction'][valid], references[valid], strict=True)
                ssim += [pool.submit(ssim_masks, *pair) for pair in pairs]
                if len(ssim) > QUEUED:
                    ssim[-QUEUED].result()  # waiting masks take memory
            return ImageScores(
                slices=[self._store.rows[row] for row in self._rows],
                counts=Counts(*np.concatenate(counts).T),
                ssim=np.array([future.result() for future in ssim]),
                loss=np.concatenate(losses),
            )

    def predict(self, variables: Variables) -> np.ndarray:
        """Binary predictions [rows, H, W]."""
        return np.concatenate([outputs['prediction'][valid] for outputs, _, valid in self._outputs(variables)])

    def _outputs(self, variables: Variables) -> Iterator[tuple[dict[str, Any], np.ndarray, np.ndarray]]:
        """Host outputs, reference masks and validity per batch; a batch is fetched after the next is under way."""
        waiting = None
        batches = iter(eval_batches(self._store, self._rows, self._target, self._batch_size))
        for batch in batches:
            device = {name: put_whole(batch[name], batch_sharding(self._mesh)) for name in ('image', 'mask')}
            dispatched = self._step(variables, device), batch['mask'] >= HALF, batch['valid']
            if waiting:
                yield jax.device_get(waiting[0]), *waiting[1:]
            waiting = dispatched
        if waiting:
            yield jax.device_get(waiting[0]), *waiting[1:]


def score_empty(store: SliceStore, rows: np.ndarray, target: str) -> ImageScores:
    """Scores of predicting nothing anywhere, the baseline that every table shows."""
    side = store.manifest['settings']['image_size']
    return score_masks(store, rows, target, lambda some: np.zeros((len(some), side, side), bool))


def score_masks(
    store: SliceStore, rows: np.ndarray, target: str, predict: Callable[[np.ndarray], np.ndarray]
) -> ImageScores:
    """Scores of what `predict` marks: it takes rows of the store to boolean [rows, side, side]."""
    counts, ssim = [], []
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(rows), CHUNK):
            some = rows[start : start + CHUNK]
            references, predictions = store.masks(some, target) >= HALF, predict(some)
            pairs = [(p, r) for p in (predictions, ~predictions) for r in (references, ~references)]
            tp, fp, fn, tn = ((p & r).sum((1, 2)) for p, r in pairs)
            counts.append(np.stack([tp, fp, fn, tn]))
            ssim += list(pool.map(ssim_masks, predictions, references))
    return ImageScores([store.rows[row] for row in rows], Counts(*np.concatenate(counts, axis=1)), np.array(ssim))


def _eval_step(
    model: nn.Module, threshold: float, loss: LossFn, variables: Variables, batch: dict[str, jax.Array]
) -> dict[str, Any]:
    """Counts, loss and prediction of each slice."""
    logits: Any = model.apply(variables, to_unit(batch['image']), train=False)
    prediction = jax.nn.sigmoid(logits) >= threshold
    return {
        'counts': count_pixels(prediction[..., 0], batch['mask'] >= HALF),
        'loss': loss(logits, to_unit(batch['mask'])),
        'prediction': prediction[..., 0],
    }
