"""What there is to say about one case before anything is trained on it: a verdict, with reasons and what to do."""

import dataclasses
from typing import Any, Literal

import numpy as np

from liver_jax.data.fingerprint import VoxelHash, whole_hu
from liver_jax.data.lesion_counter import Lesion, LesionCounter
from liver_jax.data.signature import SignatureBuilder
from liver_jax.data.volumes import Plane, Scan

Verdict = Literal['ok', 'warn', 'refuse']
VERDICTS: tuple[Verdict, ...] = ('ok', 'warn', 'refuse')  # from good to bad
CT_RANGE = (-4096, 32767)  # HU that scanners write, padding and metal included
LIVER_HU = (0, 250)  # mean HU of a liver in any phase of contrast
LIVER_POSSIBLE = (-150, 500)  # beyond this the numbers are no HU, or the mask lies elsewhere
SPECK = 5  # voxels; smaller pieces of tumour are hardly drawn by intent
SPACING_MM = {'slice': (0.3, 10.0), 'pixel': (0.2, 2.5)}
Reason = tuple[Verdict, str]


@dataclasses.dataclass(frozen=True)
class Examination:
    """One case examined; the gravest of `reasons` comes first.

    `content` is a hash of the voxels in the canonical frame, the same for a copy that was compressed, renamed, turned
    or stored as another type; `labels` is the same for the labels. `signature` is None where the scan is too small or
    its spacing unknown; without spacing the volumes in millilitres are None too.
    """

    verdict: Verdict
    reasons: list[str]
    content: str
    labels: str
    hu_range: tuple[float, float]
    liver_hu: float | None
    liver_ml: float | None
    tumor_ml: float | None
    lesions: int
    signature: np.ndarray | None

    def describe(self) -> dict[str, Any]:
        """As plain data, without the signature."""
        return {
            'verdict': self.verdict,
            'reasons': self.reasons,
            'content_sha256': self.content,
            'labels_sha256': self.labels,
            'hu_range': list(self.hu_range),
            'liver_hu': self.liver_hu,
            'liver_ml': self.liver_ml,
            'tumor_ml': self.tumor_ml,
            'lesions': self.lesions,
        }


class Examiner:
    """Collects the planes of one scan, in the order in which they come."""

    def __init__(self, scan: Scan) -> None:
        """For the planes of `scan`."""
        self._scan = scan
        self._content, self._label_hash = VoxelHash(scan.size), VoxelHash(scan.size)
        self._signature = SignatureBuilder(scan.size, scan.spacing)
        self._lesions = LesionCounter()
        self._low, self._high = np.inf, -np.inf
        self._liver_sum = 0.0
        self._voxels = np.zeros(3, int)  # background, liver, tumour

    def add(self, plane: Plane) -> None:
        """The next plane."""
        hu = plane.hu
        self._content.add(plane.index, whole_hu(hu))
        self._label_hash.add(plane.index, plane.labels)
        self._signature.add(plane.index, hu)
        self._low, self._high = min(self._low, float(hu.min())), max(self._high, float(hu.max()))
        if plane.labels.any():
            self._liver_sum += float(hu[plane.labels == 1].sum(dtype=np.float64))
        self._voxels += np.bincount(plane.labels.ravel(), minlength=3)
        self._lesions.add(plane.labels)

    def finish(self) -> Examination:
        """Everything, once all planes were added."""
        liver, tumour = (int(each) for each in self._voxels[1:])
        liver_hu = self._liver_sum / liver if liver else None
        lesions = self._lesions.finish()
        reasons = [*_geometry(self._scan), *_values(self._low, self._high, liver_hu)]
        if self._scan.labels:
            reasons += [*_labels(liver, tumour), *_pieces(lesions, bool(liver))]
        else:
            reasons.append(('warn', 'no labels: it can be predicted on, but not trained or scored; add a segmentation'))
        reasons.sort(key=lambda reason: -VERDICTS.index(reason[0]))
        millilitres = float(np.prod(self._scan.spacing)) / 1000
        return Examination(
            verdict=max((verdict for verdict, _ in reasons), key=VERDICTS.index, default='ok'),
            reasons=[reason for _, reason in reasons],
            content=self._content.finish(),
            labels=self._label_hash.finish(),
            hu_range=(self._low, self._high),
            liver_hu=None if liver_hu is None else round(liver_hu, 1),
            liver_ml=round((liver + tumour) * millilitres, 3) if self._scan.is_placed else None,
            tumor_ml=round(tumour * millilitres, 3) if self._scan.is_placed else None,
            lesions=len(lesions),
            signature=self._signature.finish() if self._scan.is_placed else None,
        )


def _geometry(scan: Scan) -> list[Reason]:
    notes = [*scan.image.notes, *(scan.labels.notes if scan.labels else ())]
    reasons: list[Reason] = [('warn', note) for note in notes]
    z, y, x = scan.spacing
    if not scan.is_placed and scan.case.kind != 'png':
        reasons.append(
            ('warn', 'identity affine: spacing and orientation are unknown, 1 mm and RAS are assumed; check a picture')
        )
    for name, mm in (('slice', z), ('pixel', max(y, x) if max(y, x) > SPACING_MM['pixel'][1] else min(y, x))):
        low, high = SPACING_MM[name]
        if not low <= mm <= high:
            reasons.append(('warn', f'{mm:.3g} mm per {name}; expected {low:g} to {high:g}, check the header'))
    apart = _apart(scan)
    if apart > 0.1:
        reasons.append(
            ('warn', f'image and labels lie up to {apart:.3g} mm apart by their affines; they are aligned by array '
             'index, check a picture of both')
        )  # fmt: skip
    return reasons


def _apart(scan: Scan) -> float:
    """How far, in mm, the affines of image and labels move the corners of the volume from one another."""
    if scan.labels is None:
        return 0.0
    corners = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * [*scan.image.shape, 1]
    moved = corners @ (scan.image.affine - scan.labels.affine).T
    return float(np.nan_to_num(np.linalg.norm(moved[:, :3], axis=1), nan=np.inf).max())


def _values(low: float, high: float, liver_hu: float | None) -> list[Reason]:
    """By the range of HU over the scan and the mean in the liver."""
    if high - low < 10:
        return [('refuse', f'all values lie from {low:g} to {high:g}; expected a CT, download it again')]
    reasons: list[Reason] = []
    if low < CT_RANGE[0] or high > CT_RANGE[1]:
        reasons.append(('warn', f'HU from {low:g} to {high:g}, more than a CT has; they are clipped to the window'))
    if low >= 0:
        reasons.append(
            ('warn', f'no value below 0 (from {low:g} to {high:g}): these may be no HU; subtract the offset')
        )
    if liver_hu is not None and not LIVER_HU[0] <= liver_hu <= LIVER_HU[1]:
        verdict: Verdict = 'warn' if LIVER_POSSIBLE[0] <= liver_hu <= LIVER_POSSIBLE[1] else 'refuse'
        reasons.append(
            (verdict, f'{liver_hu:.0f} HU in the liver on average; expected {LIVER_HU[0]} to {LIVER_HU[1]}: rescale to '
             'HU, or see in a picture whether the mask lies on the liver')
        )  # fmt: skip
    return reasons


def _labels(liver: int, tumour: int) -> list[Reason]:
    """By the numbers of voxels."""
    if not liver and not tumour:
        return [('warn', 'nothing is labelled; give it a segmentation or leave it out')]
    if not liver:
        return [('warn', 'tumour but no liver is labelled; liver should be 1 and tumour 2')]
    return [] if tumour else [('warn', "no tumour: it gives no slice with data.slices='tumor'")]


def _pieces(lesions: list[Lesion], has_liver: bool) -> list[Reason]:
    reasons: list[Reason] = []
    outside = [lesion.voxels for lesion in lesions if not lesion.in_liver]
    if outside and has_liver:
        reasons.append(
            ('warn', f'{len(outside)} of {len(lesions)} lesions touch no liver ({sum(outside):,} voxels); '
             'see in a picture whether they are drawn where they belong')
        )  # fmt: skip
    specks = sum(1 for each in lesions if each.voxels < SPECK)
    if specks:
        reasons.append(
            ('warn', f'{specks} of {len(lesions)} lesions have fewer than {SPECK} voxels: specks? erase them')
        )
    return reasons
