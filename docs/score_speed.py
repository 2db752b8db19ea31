"""The scorer beside a plain per-lesion loop with medpy, on 512x512x130 voxels with 20 lesions. See docs/scores.md.

python docs/score_speed.py [LESIONS]     # the loop does LESIONS of the 20 (default: all, many minutes)
"""

import resource
import sys
import time

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
    """Dice, RVD, ASSD and maximum surface distance of the first `count` lesions, each beside what it meets."""
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
                'msd': binary.hd(guess, truth, SPACING, connectivity=2),
            }
        )
    return scores


def main() -> None:
    """Time both; the peak of memory is taken before the loop."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    prediction, reference = volumes()
    own = []
    for _ in range(3):
        start = time.perf_counter()
        scores = score_volume(prediction, reference, SPACING)
        own.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    found = len(scores['lesions'])
    dices = ', '.join(f'{lesion["dice"]:.4f}' for lesion in scores['lesions'][:count])
    print(f'liver-jax, every score of tumour, liver and {found} lesions: {np.median(own):.2f} s, peak {peak:.2f} GB')
    print(f'  Dice of lesions: {dices}', flush=True)
    for cropped in (True, False):
        start = time.perf_counter()
        loop = medpy_loop(prediction, reference, count, cropped)
        seconds = time.perf_counter() - start
        where = 'boxes around lesions' if cropped else 'the whole volume'
        times = seconds / np.median(own)
        print(f'medpy, 4 scores of {count} lesions, {where}: {seconds:.1f} s, {times:.0f} times as long')
        dices = ', '.join(f'{lesion["dice"]:.4f}' for lesion in loop)
        print(f'  Dice of lesions: {dices}', flush=True)


if __name__ == '__main__':
    main()
