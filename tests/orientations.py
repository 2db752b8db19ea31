"""The 48 ways in which the axes of a file can run, and one askew."""

import itertools

import nibabel as nib
import numpy as np

SPACING = (0.7, 0.8, 2.5)
TOWARDS = {'L': (-1, 0, 0), 'R': (1, 0, 0), 'P': (0, -1, 0), 'A': (0, 1, 0), 'S': (0, 0, 1), 'I': (0, 0, -1)}
ORIENTATIONS = [
    ''.join(letters)
    for order in itertools.permutations(('LR', 'PA', 'SI'))
    for letters in itertools.product(*order)
]  # fmt: skip


def oblique() -> np.ndarray:
    turn = nib.eulerangles.euler2mat(0.2, 0.15, -0.3)
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn @ np.diag([-0.7, 0.8, 2.5]), (31.5, -7.25, 110)
    return affine


def orientation_affine(letters: str) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = np.transpose([np.multiply(TOWARDS[x], mm) for x, mm in zip(letters, SPACING, strict=True)])
    affine[:3, 3] = 10, -20, 30
    return affine
