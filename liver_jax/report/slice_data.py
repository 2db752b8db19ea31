"""The test slices as the page's script reads them: CT as lossless WebP, masks as run lengths, within a budget."""

import base64
import io
import math
from typing import Any

import numpy as np
from PIL import Image

from liver_jax.report.findings import Case


def case_data(case: Case, kept: np.ndarray) -> dict[str, Any]:
    """What the browser shows of a case; `kept` are positions of its slices, ascending, the others are left out.

    Lesions whose slice is left out are not offered either.
    """
    position_of = {int(old): new for new, old in enumerate(kept)}
    return {
        'name': case.name,
        'patient': case.patient,
        'side': case.truth.shape[1],
        'spacing': [round(value, 4) for value in case.spacing],
        'left_out': len(case.indices) - len(kept),
        'slices': [
            {
                'index': int(case.indices[k]),
                'image': to_webp(case.images[k]),
                'truth': run_lengths(case.truth[k]),
                'predictions': {name: run_lengths(masks[k]) for name, masks in case.predictions.items()},
                'dice': {name: _number(values[k]) for name, values in case.slice_dice.items()},
            }
            for k in kept
        ],
        'lesions': [
            {
                'diameter': round(lesion.diameter_mm, 1),
                'volume': round(lesion.volume_ml, 3),
                'position': position_of[lesion.position],
                'box': lesion.box,
                'dice': {name: _number(value) for name, value in lesion.dice.items()},
            }
            for lesion in case.lesions
            if lesion.position in position_of
        ],
    }


def choose_slices(cases: list[Case], budget: int) -> list[np.ndarray]:
    """Positions of the slices of each case that fit into `budget` bytes, in base64 with their masks.

    First those with a lesion's most, then what the reference or a network marks, those with most errors first, then
    every other, evenly through the scans.
    """
    sample = [case.images[k] for case in cases for k in np.linspace(0, len(case.images) - 1, 3).astype(int)]
    each = 1.1 * np.mean([len(to_webp(image)) for image in sample]) + 300 * len(cases[0].predictions)
    room = int(budget / each)
    all_of_them = [(number, position) for number, case in enumerate(cases) for position in range(len(case.indices))]
    ranked = sorted(all_of_them, key=lambda each: _rank(cases[each[0]], each[1]))
    return [
        np.array(sorted(position for owner, position in ranked[:room] if owner == number), int)
        for number in range(len(cases))
    ]


def _rank(case: Case, position: int) -> tuple[int, float]:
    truth = case.truth[position]
    wrong = sum(int((masks[position] != truth).sum()) for masks in case.predictions.values())
    if any(lesion.position == position for lesion in case.lesions):
        return 0, -wrong
    if wrong or truth.any():
        return 1, -wrong
    # Bits in reverse, a van der Corput sequence: any beginning of it is spread evenly.
    return 2, float(int(f'{position:016b}'[::-1], 2))


def to_webp(image: np.ndarray) -> str:
    """A picture uint8 [H, W] or [H, W, 3], lossless, as base64."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, 'WEBP', lossless=True, quality=60, method=4)
    return base64.b64encode(file.getvalue()).decode()


def run_lengths(mask: np.ndarray) -> list[int]:
    """Lengths of alternating runs, row by row, outside first; an empty mask is an empty list."""
    if not mask.any():
        return []
    flat = mask.ravel().astype(np.int8)
    edges = np.flatnonzero(np.diff(flat, prepend=0))
    return np.diff(edges, prepend=0, append=len(flat)).tolist()


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), 4)
