"""What a radiologist would note of a segmentation: every lesion measured, volumes, tumour burden.

A lesion is a connected piece of tumour, neighbours being all 26 around a voxel. Lengths are in mm, between the
midpoints of pixel edges (`metrics.geometry`).
"""

import csv
import dataclasses
import io
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import cc3d
import numpy as np

from liver_jax.data.volumes import Scan
from liver_jax.evaluation.volumes import canonical_affine
from liver_jax.metrics.geometry import axial_diameters, bounding_box

LIVER, TUMOUR = 1, 2


@dataclasses.dataclass(frozen=True)
class Lesion:
    """One lesion. `longest_mm` is the longest axial diameter, and `slice` where it is, counted from the feet.

    `perpendicular_mm` is the width across it in the same slice. `centroid_mm` is in RAS+, the frame of NIfTI (DICOM
    has the first two the other way round).
    """

    number: int
    voxels: int
    volume_ml: float
    longest_mm: float
    perpendicular_mm: float
    slice: int
    centroid_mm: tuple[float, float, float]
    mean_hu: float


def describe_findings(
    labels: np.ndarray, tumour_hu: np.ndarray, scan: Scan, looked_for: Collection[int]
) -> dict[str, Any]:
    """Findings of canonical `labels` [slices, rows, columns] in {0, 1 (liver), 2 (tumour)} as plain data.

    `tumour_hu` are the HU of the tumour's voxels in their order. The liver counts with its tumours, and tumour burden
    is their part of it. What is not among the labels `looked_for` is None, and so is the burden of no liver.
    """
    millilitres = float(np.prod(scan.spacing)) / 1000
    liver, tumour = (int(np.count_nonzero(labels == value)) * millilitres for value in (LIVER, TUMOUR))
    whole, both = liver + tumour, {LIVER, TUMOUR} <= set(looked_for)
    return {
        'liver_ml': round(whole, 4) if LIVER in looked_for else None,
        'tumor_ml': round(tumour, 4) if TUMOUR in looked_for else None,
        'tumor_burden': round(tumour / whole, 6) if both and whole else None,
        'lesions': [dataclasses.asdict(lesion) for lesion in measure_lesions(labels == TUMOUR, tumour_hu, scan)],
    }


def measure_lesions(tumour: np.ndarray, hu: np.ndarray, scan: Scan) -> list[Lesion]:
    """The lesions of a mask [slices, rows, columns], largest first; `hu` are those of its voxels in their order."""
    if not len(hu):
        return []
    box = bounding_box(tumour)
    pieces, count = cc3d.connected_components(np.ascontiguousarray(tumour[box]), connectivity=26, return_N=True)
    numbers = pieces[pieces > 0]
    voxels = np.bincount(numbers, minlength=count + 1)
    sums = np.bincount(numbers, weights=hu, minlength=count + 1)
    facts, affine = cc3d.statistics(pieces), canonical_affine(scan)
    first = np.array([side.start for side in box])
    lesions: list[Lesion] = []
    for piece in np.argsort(-voxels[1:], kind='stable') + 1:
        own = facts['bounding_boxes'][piece]
        plane, longest, across = axial_diameters(pieces[own] == piece, scan.spacing[1:])
        centroid = affine[:3, :3] @ (facts['centroids'][piece] + first) + affine[:3, 3]
        lesions.append(
            Lesion(
                number=len(lesions) + 1,
                voxels=int(voxels[piece]),
                volume_ml=round(float(voxels[piece] * np.prod(scan.spacing)) / 1000, 4),
                longest_mm=round(longest, 2),
                perpendicular_mm=round(across, 2),
                slice=int(plane + own[0].start + first[0]),
                centroid_mm=tuple(round(float(mm), 3) for mm in centroid),  # type: ignore[arg-type]
                mean_hu=round(float(sums[piece] / voxels[piece]), 1),
            )
        )
    return lesions


def findings_csv(cases: Sequence[Mapping[str, Any]]) -> str:
    """A line per lesion of all cases (`case`, `liver_ml`, `tumor_ml`, `tumor_burden`, `lesions`).

    A case without lesion has a line as well, so that none is missing.
    """
    names = [field.name for field in dataclasses.fields(Lesion) if field.name not in ('number', 'centroid_mm')]
    text = io.StringIO()
    table = csv.writer(text, lineterminator='\n')
    table.writerow(['case', 'liver_ml', 'tumor_ml', 'tumor_burden', 'lesion', *names, 'x_mm', 'y_mm', 'z_mm'])
    for case in cases:
        start = [case['case'], *(case[name] for name in ('liver_ml', 'tumor_ml', 'tumor_burden'))]
        for lesion in case['lesions']:
            table.writerow([*start, lesion['number'], *(lesion[name] for name in names), *lesion['centroid_mm']])
        if not case['lesions']:
            table.writerow([*start, *[''] * (len(names) + 4)])
    return text.getvalue()


def findings_text(case: Mapping[str, Any]) -> str:
    """The findings of a case in a few words."""
    parts = [f'liver {_millilitres(case["liver_ml"], 0)} ml'] if case['liver_ml'] is not None else []
    if case['tumor_ml'] is not None:
        lesions = len(case['lesions'])
        parts.append(f'{lesions} lesion{"" if lesions == 1 else "s"} of {_millilitres(case["tumor_ml"])} ml')
    return ', '.join(parts)


def _millilitres(ml: float, digits: int = 1) -> str:
    """With two digits below 1 ml, where lesions are that count; 0 is none."""
    return f'{ml:.2f}' if 0 < ml < 1 else f'{ml:,.{digits}f}'
