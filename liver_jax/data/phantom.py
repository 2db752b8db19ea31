"""Synthetic abdominal CT: patients with a liver and tumours, drawn from a seed, for trials without anybody's data.

Anatomy is laid out in the mm of a standard patient: x to the patient's left, y to the front, z to the head, the origin
amid the trunk. Every patient stretches and bends that space, so no two livers are alike. Patient k depends on the seed
and k alone; every eighth has no tumour (5, 13, ...), and every fourth was scanned twice (1, 5, 9, ...).
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage
from tqdm import tqdm

from liver_jax.data.formats.nifti import write_nifti
from liver_jax.errors import UserError

Box = tuple[slice, ...]
IN_PLANE, THICKNESSES_MM = 256, (2.5, 3.0, 3.5, 4.0, 5.0)
LESION_DIAMETERS_MM = (5.0, 56.0)  # before they are made uneven, which widens them by a few mm
PADDING, AIR, GAS, LUNG, FAT, FLUID, MUSCLE, MARROW, CORTEX = (-1024, -1000, -900, -830, -100, 15, 52, 230, 620)  # HU
# The standard patient in mm: half the width and depth of the cavity, its wall, how far bending may carry a point.
CAVITY, WALL, BEND = np.array([126.0, 92.0]), 14.0, 14.0
# Ellipsoids (centre, radii). The liver is three lobes less the beds of the gut and of the right kidney.
LOBES = np.array([[[-62, -2, 0], [66, 84, 82]], [[0, 40, 34], [74, 40, 42]], [[-90, -12, -45], [36, 58, 55]]])
BEDS = np.array([[[32, 14, -75], [88, 90, 85]], [[-56, -66, -82], [36, 56, 66]]])
# The same with HU: spleen, heart, pancreas; psoas muscles; right and left kidney (cortex, medulla, sinus).
ORGANS = (((92, -36, 14), (28, 42, 46), 115), ((26, 34, 108), (58, 46, 44), 130), ((18, 6, -22), (50, 10, 14), 92))
PSOAS = (((-32, -52, -115), (15, 17, 80), 55), ((32, -52, -115), (15, 17, 80), 55))
RIGHT = (((-56, -46, -66), (26, 26, 50), 185), ((-56, -46, -66), (19, 19, 40), 150), ((-43, -41, -66), (12, 8, 9), -60))
LEFT = (((58, -46, -50), (26, 26, 50), 185), ((58, -46, -50), (19, 19, 40), 150), ((45, -41, -50), (12, 8, 20), -60))
# Tubes (from, to, radius): aorta and caval vein; mesenteric, splenic and portal veins.
TRUNKS = (((6, -25, -140), (5, -31, 140), 11), ((-24, -30, -140), (-10, 0, 120), 11))
VEINS = (((-6, 8, -130), (4, 2, -24), 5.5), ((4, 2, -24), (80, -24, 12), 4), ((4, 2, -24), (-26, 6, 0), 7))
# Trees of vessels in the liver (root, towards, radius): portal, hepatic.
PORTAL = (((-26, 6, 0), (-1, -0.1, 0.15), 6), ((-26, 6, 0), (0.5, 0.8, 0.5), 4.5))
HEPATIC = (((-13, -6, 62), (-1, -0.4, -0.4), 5), ((-13, -6, 62), (-0.6, 0.7, -0.5), 5), ((-13, -6, 62), (6, 8, -3), 4))
WHOLE = (slice(None), slice(None), slice(None))


@dataclass(frozen=True)
class Phantom:
    """One synthetic scan, axes [i, j, k] towards the patient's left, front and head ('LAS').

    `hu` int16 in HU, `labels` uint8 (0 background, 1 liver, 2 tumour), `spacing` in mm, `affine` 4x4 to mm in RAS+.
    """

    hu: np.ndarray
    labels: np.ndarray
    spacing: tuple[float, float, float]
    affine: np.ndarray


def make_phantoms(out: Path, patients: int, seed: int) -> list[Path]:
    """Write scans and labels in the Kaggle layout of LiTS, and patients.csv (case, patient); return the scans' paths.

    `out` will hold volume_pt1/volume-N.nii.gz, segmentations/segmentation-N.nii.gz and patients.csv. N runs further
    than `patients`, for every fourth has two scans. The same seed gives the same voxels.

    Raises:
        UserError: `out` is there and not an empty folder, or cannot be replaced; patients < 1 or seed < 0.
    """
    if patients < 1 or seed < 0:
        raise UserError(f'phantoms: patients={patients}, seed={seed}; expected at least 1 and 0, change them')
    target = out.resolve()
    if target.exists() and (not target.is_dir() or target.is_mount() or any(target.iterdir())):
        raise UserError(f'{out}: holds something or is a mount point; expected a new or empty folder, name another')
    target.parent.mkdir(parents=True, exist_ok=True)
    scans = [(patient, visit) for patient in range(patients) for visit in range(2 if patient % 4 == 1 else 1)]
    # Renamed at the end, so that a folder cut short is never taken for a whole one.
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f'.{target.name}.') as scratch:
        folder = Path(scratch) / 'whole'
        for name in ('volume_pt1', 'segmentations'):
            (folder / name).mkdir(parents=True)
        for n, (patient, visit) in enumerate(tqdm(scans, desc='phantoms', unit='scan', disable=None)):
            phantom = make_phantom(seed, patient, visit)
            write_nifti(folder / f'volume_pt1/volume-{n}.nii.gz', phantom.hu, phantom.affine)
            write_nifti(folder / f'segmentations/segmentation-{n}.nii.gz', phantom.labels, phantom.affine)
        rows = ['case,patient', *(f'volume-{n},patient-{patient}' for n, (patient, _) in enumerate(scans))]
        (folder / 'patients.csv').write_text('\n'.join(rows) + '\n', encoding='utf-8')
        folder.rename(target)
    return [out / f'volume_pt1/volume-{n}.nii.gz' for n in range(len(scans))]


def make_phantom(seed: int, patient: int, visit: int = 0) -> Phantom:
    """Draw one scan of one patient; visit 1 has another spacing, position and noise, and grown tumours."""
    # Seeds are padded with zeros: [seed, patient, 0] would repeat [seed, patient]. Hence streams from 1 up.
    shape, sites, detail, plan, scan = (np.random.default_rng([seed, patient, n]) for n in (1, 2, 3, 4, 5 + visit))
    body = _Body(shape)
    model = _Canvas([np.arange(-half, half, 4.0) for half in (*body.half, 140.0)], body)
    liver = _liver_depth(model, WHOLE) < 0
    low, high = model.axes[2][liver.any((0, 1))][[0, -1]] + np.array([-8.0, 8.0])
    # 30 to 60 slices, and not as thick as those of the other visit.
    thick = plan.permutation([t for t in THICKNESSES_MM if 30 <= (high - low) / t <= 60])[visit]
    wide = round(scan.uniform(max(1.3, (2.06 * body.half[0] + 8) / IN_PLANE), 1.7), 3)
    plane = (np.arange(IN_PLANE) - (IN_PLANE - 1) / 2) * wide
    x, y = plane + scan.uniform(-8, 8), plane + scan.uniform(-15, 5)
    z = np.arange(low + scan.uniform(0, 2), high, thick)
    canvas = _Canvas([x, y, z], body)
    growth = scan.uniform(1.05, 1.2) if visit else 1.0
    _paint_trunk(canvas, detail)
    _paint_viscera(canvas, detail)
    _paint_liver(canvas, detail)
    for centre, diameter in _draw_lesions(model, liver, sites) if patient % 8 != 5 else []:
        _paint_lesion(canvas, centre, min(diameter * growth, LESION_DIAMETERS_MM[1]) / 2, sites)
    affine = np.diag([-wide, wide, thick, 1.0])
    affine[:3, 3] = -x[0], y[0], z[0] - 300
    return Phantom(_expose(canvas, scan), canvas.labels, (wide, wide, float(thick)), affine)


class _Body:
    """What makes a patient: sizes, bends and brightness."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.scale = rng.uniform([0.9, 0.94, 0.75], [1.12, 1.14, 0.98])  # true mm per standard mm
        self.fat = rng.uniform(6, 26)  # mm under the skin
        self.half = CAVITY * self.scale[:2] + WALL + self.fat
        # Three long bends per axis and three short ones: [axis moved, wave, axis followed].
        lengths = np.concatenate([rng.uniform(140, 260, (3, 3, 3)), rng.uniform(45, 80, (3, 3, 3))], axis=1)
        self.rates, self.phases = 2 * np.pi / lengths, rng.uniform(0, 2 * np.pi, lengths.shape)
        self.lobes, self.beds = LOBES + rng.uniform(-6, 6, LOBES.shape), BEDS + rng.uniform(-4, 4, BEDS.shape)
        self.fissure = rng.uniform(-2, 3)  # half width in mm; none below 0
        self.liver, self.blood = float(np.clip(rng.normal(102, 12), 80, 124)), rng.uniform(145, 185)  # HU


class _Canvas:
    """A scan being painted: HU, labels, the inside of the cavity, and the standard coordinates of every voxel."""

    def __init__(self, axes: list[np.ndarray], body: _Body) -> None:
        self.axes, self.body = [axis.astype(np.float32) for axis in axes], body
        self.hu = np.full([len(axis) for axis in axes], AIR, np.float32)
        self.labels = np.zeros_like(self.hu, np.uint8)
        self.standard = []
        for a, (rates, phases) in enumerate(zip(body.rates, body.phases, strict=True)):
            waves = zip(rates.T, self.axes, phases.T, strict=True)
            i, j, k = (np.sin(np.outer(rate, axis) + phase[:, None]) for rate, axis, phase in waves)
            weight = 0.2 / np.linalg.norm(rates, axis=1)  # short bends are weak
            straight = np.expand_dims(self.axes[a], [b for b in range(3) if b != a]) / body.scale[a]
            self.standard.append(np.asarray(straight + np.einsum('w,wi,wj->ijw', weight, i, j) @ k, np.float32))
        self.cavity = self.inside(WALL)

    def radius(self, depth: float) -> np.ndarray:
        """[i, j] 1 on the trunk's contour `depth` mm beneath the fat (in the fat if negative), less further in."""
        half, (first, second, *_) = self.body.half - self.body.fat - depth, self.body.phases[0, :, 0]
        x, y = self.axes[0][:, None] / half[0], self.axes[1][None, :] / half[1]
        dent = 1 + 0.012 * np.sin(2 * np.arctan2(y, x) + first) + 0.012 * np.sin(3 * np.arctan2(y, x) + second)
        return np.asarray((np.abs(x) ** 2.3 + np.abs(y) ** 2.3) ** (1 / 2.3) * dent, np.float32)

    def inside(self, depth: float) -> np.ndarray:
        """[i, j, k] whether a voxel lies deeper than `depth` mm beneath the fat."""
        return self.radius(depth)[:, :, None] < 1 + 0.02 * np.sin(self.axes[2] / 90 + self.body.phases[0, 0, 1])

    def near(self, centre: np.ndarray, reach: np.ndarray) -> Box:
        """The box of voxels around a point, both in true mm."""
        sides = zip(self.axes, centre - reach, centre + reach, strict=True)
        return tuple(slice(*np.searchsorted(axis, ends)) for axis, *ends in sides)

    def ellipsoid(self, centre: np.ndarray, radii: np.ndarray, box: Box | None = None) -> tuple[Box, np.ndarray]:
        """A box and, over it, the distance from a standard point in units of the radii: 1 on the surface."""
        box = box or self.near(centre * self.body.scale, (radii + BEND) * self.body.scale)
        x, y, z = (((s[box] - c) / r) ** 2 for s, c, r in zip(self.standard, centre, radii, strict=True))
        return box, np.sqrt(x + y + z)

    def paint(self, box: Box, weight: np.ndarray, hu: float | np.ndarray) -> None:
        """Blend `hu` into the box by a weight in [0, 1], within the cavity."""
        part = self.hu[box]
        part += weight * self.cavity[box] * (hu - part)

    def tube(self, start: np.ndarray, end: np.ndarray, radius: float, label: int, hu: float) -> None:
        """Paint a vessel between standard points where the voxels have that label."""
        way = end - start
        box = self.near((start + end) / 2 * self.body.scale, (np.abs(way) / 2 + radius + BEND) * self.body.scale)
        offset = np.stack([s[box] - c for s, c in zip(self.standard, start, strict=True)], axis=-1)
        along = np.clip(offset @ way / (way @ way), 0, 1)[..., None]
        distance = np.linalg.norm(offset - along * way, axis=-1)
        self.paint(box, np.clip(radius - distance + 0.5, 0, 1) * (self.labels[box] == label), hu)

    def tree(self, start: np.ndarray, towards: np.ndarray, radius: float, forks: int, rng: np.random.Generator) -> None:
        """Paint a vessel of the liver and its branches."""
        end = start + towards / np.linalg.norm(towards) * rng.uniform(8, 12) * (1 + forks)
        self.tube(start, end, radius, 1, self.body.blood)
        for turn in rng.normal(0, 0.45, (2 if forks else 0, 3)):
            self.tree(end, (end - start) / np.linalg.norm(end - start) + turn, radius * 0.72, forks - 1, rng)


def _draw_lesions(model: _Canvas, liver: np.ndarray, rng: np.random.Generator) -> list[tuple[np.ndarray, float]]:
    """Where tumours lie (true mm) and their diameters, the greatest first; deep enough to be mostly in the liver."""
    depth = ndimage.distance_transform_edt(liver, sampling=[axis[1] - axis[0] for axis in model.axes])
    diameters = np.exp(np.interp(rng.random(rng.integers(1, 7)), [0, 1], np.log(LESION_DIAMETERS_MM)))
    diameters[0] = max(diameters[0], 15)  # whoever has tumours has one that can be seen
    lesions: list[tuple[np.ndarray, float]] = []
    for diameter in sorted(diameters, reverse=True):
        room = np.nonzero(depth >= min(0.25 * diameter + 2, 0.9 * depth.max()))
        places = np.stack([axis[index] for axis, index in zip(model.axes, room, strict=True)], axis=1)
        for other, width in lesions:
            places = places[np.linalg.norm(places - other, axis=1) > 0.6 * (diameter + width)]
        lesions += [(place, diameter) for place in rng.permutation(places)[:1]]
    return lesions


def _paint_trunk(canvas: _Canvas, rng: np.random.Generator) -> None:
    fat, half, z = canvas.body.fat, canvas.body.half, canvas.axes[2]
    for depth, hu in ((-fat, 10), (2 - fat, FAT - 6), (0, MUSCLE), (WALL, FAT)):
        canvas.hu[canvas.inside(depth)] = hu
    # Ribs fall on their way from back to front.
    x, y = np.abs(canvas.axes[0])[:, None], canvas.axes[1][None, :]
    across, angle = (canvas.radius(WALL / 2) - 1) * half.mean() / 5, np.arctan2(x / half[0], -y / half[1])
    wall = (np.abs(across) < 1) & (angle < 2.2) & (angle > 0.3)
    along = ((z + 80 * angle[wall][:, None]) / 27 + rng.uniform()) % 1 - 0.5
    rib = np.hypot(across[wall][:, None], along / 0.2)
    canvas.hu[wall] = np.select([rib < 0.6, rib < 1], [MARROW, CORTEX], canvas.hu[wall])
    # The spine and the muscles beside it, as seen from the middle of the vertebral body.
    y = y + 52 * canvas.body.scale[1]
    back = (np.hypot((x - 30) / 27, (y + 36) / 22) < 1) & (canvas.radius(2) < 1)
    body, ring = np.hypot(x / 22, y / 16) < 1, np.hypot(x / 15, (y + 27) / 13) < 1
    marrow, canal = np.hypot(x / 19, y / 13) < 1, np.hypot(x / 9, (y + 27) / 8) < 1
    spikes = (x < 3.5) & (y < -38) & (y > -60) | (x < 36) & (np.abs(y + 25 + 0.15 * x) < 4)
    for part, hu in ((back, MUSCLE), (spikes, 420), (body | ring, CORTEX), (marrow, MARROW), (canal, 35)):
        canvas.hu[part] = hu
        canvas.cavity[part] = False
    canvas.hu[body[:, :, None] & ((z / 33 + rng.uniform()) % 1 < 0.24)] = 85  # discs


def _paint_viscera(canvas: _Canvas, rng: np.random.Generator) -> None:
    x, y, z = canvas.standard
    floor = np.maximum(*(top - 75 * ((x - side) ** 2 + y**2) / 70**2 for side, top in ((-62, 82), (62, 66))))
    canvas.paint(WHOLE, (z > floor) & (np.hypot(x / 30, (y + 10) / 50) > 1), LUNG)  # either side of the mediastinum
    gut = rng.uniform([[-70, -10, -135], [12, 12, 12]], [[110, 80, -15], [28, 28, 28]], (50, 2, 3))
    stomach = rng.uniform([[45, 25, 10], [32, 30, 38]], [[62, 42, 28], [42, 40, 50]], (1, 2, 3))
    for centre, radii in (*gut, *stomach):
        box, q = canvas.ellipsoid(centre, radii)
        canvas.paint(box, q < 1, 60)
        x, y, z = (s[box] for s in canvas.standard)
        stool = -30 + 150 * np.sin(0.4 * x + 2 * np.sin(0.3 * y + 0.2 * z)) * np.sin(0.5 * y + 2 * np.sin(0.4 * x))
        lumen = q < 1 - 3 / radii.min()
        canvas.paint(box, lumen, (FLUID + 8, 70, stool, 260)[rng.choice(4, p=[0.35, 0.3, 0.25, 0.1])])
        canvas.paint(box, lumen & (y > centre[1] + radii[1] * rng.uniform(-0.3, 2.5)), GAS)  # it rises to the front
    for centre, radii, hu in ORGANS + PSOAS + RIGHT + LEFT:
        box, q = canvas.ellipsoid(np.array(centre), np.array(radii))
        canvas.paint(box, q < 1, hu + rng.uniform(-6, 6))


def _liver_depth(canvas: _Canvas, box: Box) -> np.ndarray:
    """Over the box: negative inside the liver, growing outwards by about 1 in 75 mm."""
    body, (x, y, z) = canvas.body, (s[box] for s in canvas.standard)
    lobes = [canvas.ellipsoid(centre, radii, box)[1] for centre, radii in body.lobes]
    depth = -np.log(sum(np.exp(-8 * (lobe - 1)) for lobe in lobes) + 1e-30) / 8
    cuts = [(1 - canvas.ellipsoid(centre, radii, box)[1]) * radii.mean() / 75 for centre, radii in body.beds]
    cuts.append((38 - np.hypot(x, y + 52)) / 75)  # the spine
    cuts.append((12 - np.hypot(x + 16.5 - 0.054 * z, y + 14 - 0.115 * z)) / 75)  # the caval vein
    cuts.append((body.fissure - np.abs(x - 4 - 0.3 * (y - 50)) - np.maximum(0, 45 - y) / 8) / 75)
    return np.where(canvas.cavity[box], np.maximum.reduce([depth, *cuts]), 1)


def _paint_liver(canvas: _Canvas, rng: np.random.Generator) -> None:
    box = canvas.near(np.array([-30, 0, 0]), np.array([130, 150, 150]))
    depth = _liver_depth(canvas, box)
    # A film of fat parts the liver from the gut, and the diaphragm parts it from the lung.
    canvas.paint(box, depth < 0.04, np.where(canvas.hu[box] < -400, MUSCLE, FAT))
    x, y, z = (s[box] for s in canvas.standard)
    mottle = 3 * np.sin(x / 17 + y / 29) * np.sin(y / 21 - z / 13) + 2 * np.sin(x / 5 + z / 7) * np.sin(y / 6)
    canvas.paint(box, depth < 0, canvas.body.liver + mottle)
    canvas.labels[box][depth < 0] = 1
    for root, towards, radius in PORTAL + HEPATIC:
        canvas.tree(np.array(root), np.array(towards), radius, 3, rng)
    box, q = canvas.ellipsoid(rng.uniform([-48, 30, -55], [-30, 50, -35]), rng.uniform([11, 11, 18], [16, 16, 28]))
    canvas.paint(box, q < 1, np.where(q > 0.9, 60, FLUID))  # the gall bladder
    canvas.labels[box][q < 1] = 0
    for start, end, radius in TRUNKS + VEINS:
        canvas.tube(np.array(start), np.array(end), radius, 0, canvas.body.blood)


def _paint_lesion(canvas: _Canvas, centre: np.ndarray, radius: float, rng: np.random.Generator) -> None:
    stretch, turn = np.exp(rng.normal(0, 0.15, (3, 1))), np.linalg.qr(rng.normal(size=(3, 3)))[0]
    waves = np.column_stack([rng.normal(0, 2.5, (5, 3)), rng.uniform(0, 2 * np.pi, 5)])
    box = canvas.near(centre, np.full(3, 1.8 * radius + 4))
    offsets = (axis[part] - c for axis, part, c in zip(canvas.axes, box, centre, strict=True))
    ball = np.tensordot(turn * stretch / np.cbrt(stretch.prod()), np.meshgrid(*offsets, indexing='ij'), 1) / radius
    reach = np.linalg.norm(ball, axis=0)
    uneven = sum(np.sin(np.tensordot(wave[:3], ball / (reach + 1e-6), 1) + wave[3]) for wave in waves)
    q = reach * (1 + 0.08 * uneven)
    base, rim, core = np.clip(canvas.body.liver - rng.uniform(24, 60), 30, 72), *rng.choice([0, 0, 15], 2)
    hu = base - core * np.clip((0.6 - q) * 4, 0, 1) + rim * np.exp(-(((q - 0.95) / 0.12) ** 2))
    fade = rng.uniform(2, 5)  # mm
    canvas.paint(box, (canvas.labels[box] > 0) * np.clip((1 - q) * radius / fade + 0.6, 0, 1), hu)
    canvas.labels[box][(canvas.labels[box] > 0) & (q < 1)] = 2


def _expose(canvas: _Canvas, rng: np.random.Generator) -> np.ndarray:
    """int16 HU: on a table, blurred in plane, with noise that neighbours share, padded outside the field of view."""
    x, y = canvas.axes[0][:, None], canvas.axes[1][None, :]
    table = y + 1.04 * canvas.body.half[1] + rng.uniform(4, 10) - rng.uniform(2e-4, 6e-4) * x**2
    canvas.hu[(np.abs(table) < 1.5) & (np.abs(x) < 200)] = 160
    grain, loudness = rng.uniform(0.6, 1.0), rng.uniform(8, 15)
    noise = ndimage.gaussian_filter(rng.standard_normal(canvas.hu.shape, np.float32), (grain, grain, 0))
    hu = ndimage.gaussian_filter(canvas.hu, (0.6, 0.6, 0)) + noise * (loudness / noise.std())
    hu[np.hypot(x - x.mean(), y - y.mean()) > np.ptp(x) / 2] = PADDING
    return np.rint(np.clip(hu, PADDING, 3071)).astype(np.int16)
