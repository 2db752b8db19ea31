"""The scorer beside a plain per-lesion loop with medpy, on 512x512x130 voxels with 20 lesions. See docs/scores.md.

python docs/score_speed.py [LESIONS]     # the loop does LESIONS of the 20 (default: all, many minutes)
"""

import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from medpy.metric import binary
from scipy import ndimage

from liver_jax.evaluation.score_volumes import score_volume

SHAPE, SPACING = (130, 512, 512), (1.0, 0.75, 0.75)


def volumes() -> tuple[np.ndarray, np.ndarray]:
    """Prediction and reference: a liver of 2 l, 20 balls of 6 to 38 mm as lesions, predicted a little off."""
    rng = np.random.default_rng(0)
    z, y, x = (np.arange(n, dtype=np.float32) * mm for n, mm in zip(SHAPE, SPACING, strict=True))
    z, y, x = z[:, None, None], y[None, :, None], x[None, None, :]
    inside = (((z - 65) / 60) ** 2 + ((y - 180) / 95) ** 2 + ((x - 170) / 120) ** 2) < 1
    outside = (((z - 64) / 60) ** 2 + ((y - 182) / 96) ** 2 + ((x - 169) / 118) ** 2) < 1
    prediction, reference = outside.astype(np.uint8), inside.astype(np.uint8)
    places = [(dz, dy, dx) for dz in (35, 90) for dy in (130, 230) for dx in (90, 130, 170, 210, 250)]
    for number, place in enumerate(places):
        radius = 3 + number
        for labels, centre, size in (
            (reference, place, radius),
            (prediction, place + rng.normal(0, 1, 3), radius + 0.5),
        ):
            ball = ((z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2) < min(size, 19) ** 2
            labels[ball] = 2
    return prediction, reference


def medpy_loop(prediction: np.ndarray, reference: np.ndarray, count: int, cropped: bool) -> list[dict[str, float]]:
    """Dice, RVD and ASSD of the first `count` lesions, each beside what it meets."""
    numbers, _ = ndimage.label(reference == 2)
    guesses, _ = ndimage.label(prediction == 2)
    scores = []
    for number in range(1, count + 1):
        truth = numbers == number
        guess = np.isin(guesses, np.setdiff1d(np.unique(guesses[truth]), 0))
        if cropped:
            box = tuple(
                slice(max(s.start - 1, 0), s.stop + 1) for s in ndimage.find_objects((truth | guess).astype(int))[0]
            )
            truth, guess = truth[box], guess[box]
        scores.append(
            {
                'dice': binary.dc(guess, truth),
                'rvd': binary.ravd(guess, truth),
                'assd': binary.assd(guess, truth, SPACING, connectivity=2),
            }
        )
    return scores


def timed(function: Callable[..., Any], *arguments: Any) -> tuple[Any, str, float]:
    """What it returns, its seconds in words, and its CPU seconds, which a busy machine changes less."""
    start, processor = time.perf_counter(), time.process_time()
    result = function(*arguments)
    seconds, processor = time.perf_counter() - start, time.process_time() - processor
    return result, f'{seconds:.1f} s ({processor:.1f} s of CPU)', processor


def main() -> None:
    """Time both; the peak of memory is taken before the loop."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    prediction, reference = volumes()
    scores, words, own = timed(score_volume, prediction, reference, SPACING)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    found = len(scores['lesions'])
    print(f'liver-jax, every score of tumour, liver and {found} lesions: {words}, peak {peak:.2f} GB', flush=True)
    for cropped in (True, False):
        loop, words, processor = timed(medpy_loop, prediction, reference, count, cropped)
        where = 'boxes around lesions' if cropped else 'the whole volume'
        print(f'medpy, 3 scores of {count} lesions, {where}: {words}, {processor / own:.1f} times the CPU', flush=True)
        apart = [abs(ours['dice'] - theirs['dice']) for ours, theirs in zip(scores['lesions'], loop, strict=False)]
        print(f'  Dice of lesions differs by {max(apart):.1e} at most', flush=True)


if __name__ == '__main__':
    main()
