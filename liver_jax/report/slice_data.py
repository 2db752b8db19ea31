"""The test slices as the page's script reads them: CT as lossless WebP, masks as run lengths, within a budget."""

import base64
import io
import json
import math
from typing import Any

import numpy as np
from PIL import Image

from liver_jax.report.cases import Case


def cases_data(cases: list[Case], budget: int) -> list[dict[str, Any]]:
    """What the browser shows of the cases, in at most `budget` bytes of JSON, but one slice of each in any case.

    Where not all slices fit: first those with a lesion's most, then what the truth or a network marks, most errors
    first, then every other, evenly through the scans. Lesions whose slice is left out are not offered either.
    """
    ranked = sorted((_rank(case, k), number, k) for number, case in enumerate(cases) for k in range(len(case.indices)))
    first = {number: k for _, number, k in reversed(ranked)}
    ranked.sort(key=lambda each: first[each[1]] != each[2])
    slices: list[dict[int, dict[str, Any]]] = [{} for _ in cases]
    for _, number, k in ranked:
        entry = _slice_data(cases[number], k)
        budget -= len(json.dumps(entry, separators=(',', ':'))) + 1
        if budget < 0 and slices[number]:
            break
        slices[number][k] = entry
    return [_case_data(case, dict(sorted(kept.items()))) for case, kept in zip(cases, slices, strict=True)]


def _case_data(case: Case, slices: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """`slices` by their position in the case, ascending."""
    position_of = {old: new for new, old in enumerate(slices)}
    return {
        'name': case.name,
        'patient': case.patient,
        'side': case.truth.shape[1],
        'spacing': [round(value, 4) for value in case.spacing],
        'left_out': len(case.indices) - len(slices),
        'slices': list(slices.values()),
        'lesions': [
            {
                'diameter': round(lesion.diameter_mm, 1),
                'position': position_of[lesion.position],
                'box': lesion.box,
                'dice': {name: _number(value) for name, value in lesion.dice.items()},
            }
            for lesion in case.lesions
            if lesion.position in position_of
        ],
    }


def _slice_data(case: Case, k: int) -> dict[str, Any]:
    return {
        'index': int(case.indices[k]),
        'image': to_webp(case.images[k]),
        'truth': run_lengths(case.truth[k]),
        'predictions': {name: run_lengths(masks[k]) for name, masks in case.predictions.items()},
        'dice': {name: _number(values[k]) for name, values in case.slice_dice.items()},
    }


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
