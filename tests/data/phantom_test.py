"""The synthetic patients: the same for the same seed, laid out as LiTS is, and sound as anatomy and as CT."""

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from liver_jax.data import phantom
from liver_jax.data.layouts import find_cases
from liver_jax.data.phantom import Phantom, make_phantom, make_phantoms
from liver_jax.data.volumes import read_case
from liver_jax.errors import UserError

LIVER, TUMOUR = 1, 2
# (patient, visit) of seed 0; the last one is a patient without tumours.
SCANS = [(0, 0), (1, 0), (1, 1), (2, 0), (5, 0)]


@pytest.fixture(scope='module')
def cohort() -> dict[tuple[int, int], Phantom]:
    return {scan: make_phantom(0, *scan) for scan in SCANS}


@pytest.fixture(scope='module')
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    out = tmp_path_factory.mktemp('phantoms') / 'deep' / 'two'
    return out, make_phantoms(out, patients=2, seed=0)


@pytest.fixture
def instant(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scans of 8 voxels whose first HU says the patient and the visit: for tests of the folder alone."""

    def tiny(seed: int, patient: int, visit: int = 0) -> Phantom:
        hu = np.full((2, 2, 2), 10 * patient + visit, np.int16)
        return Phantom(hu, np.zeros_like(hu, np.uint8), (1.0, 1.0, 1.0), np.eye(4))

    monkeypatch.setattr(phantom, 'make_phantom', tiny)


def lesions(scan: Phantom) -> list[np.ndarray]:
    components, count = ndimage.label(scan.labels == TUMOUR, np.ones((3, 3, 3)))
    return [components == n + 1 for n in range(count)]


def centre(scan: Phantom, where: np.ndarray) -> np.ndarray:
    """Mean position in mm towards right, front and head."""
    return scan.affine[:3, :3] @ np.argwhere(where).mean(0) + scan.affine[:3, 3]


def test_the_same_seed_gives_the_same_bytes(cohort):
    again = make_phantom(0, 2)
    for name in ('hu', 'labels', 'affine'):
        assert getattr(again, name).tobytes() == getattr(cohort[2, 0], name).tobytes(), name
    assert again.spacing == cohort[2, 0].spacing


def test_seeds_patients_and_visits_differ(cohort):
    scans = [*cohort.values(), make_phantom(1, 0)]
    assert len({scan.hu.tobytes() for scan in scans}) == len(scans)
    assert len({scan.labels.tobytes() for scan in scans}) == len(scans)


def test_a_patient_does_not_depend_on_how_many_there_are(written, tmp_path):
    out, _ = written
    assert make_phantoms(tmp_path / 'one', patients=1, seed=0) == [tmp_path / 'one/volume_pt1/volume-0.nii.gz']
    for name in ('volume_pt1/volume-0.nii.gz', 'segmentations/segmentation-0.nii.gz'):
        np.testing.assert_array_equal(nib.load(tmp_path / 'one' / name).dataobj, nib.load(out / name).dataobj)


def test_files_hold_the_phantom(written, cohort):
    out, paths = written
    assert paths == [out / 'volume_pt1' / f'volume-{n}.nii.gz' for n in range(3)]
    for n, scan in enumerate([(0, 0), (1, 0), (1, 1)]):
        image, label = nib.load(paths[n]), nib.load(out / f'segmentations/segmentation-{n}.nii.gz')
        assert image.get_data_dtype() == np.int16
        assert label.get_data_dtype() == np.uint8
        np.testing.assert_array_equal(image.dataobj, cohort[scan].hu)
        np.testing.assert_array_equal(label.dataobj, cohort[scan].labels)
        np.testing.assert_allclose(image.affine, cohort[scan].affine, atol=1e-3)
        np.testing.assert_allclose(image.header.get_zooms(), cohort[scan].spacing, atol=1e-5)
        assert nib.aff2axcodes(image.affine) == nib.aff2axcodes(label.affine) == ('L', 'A', 'S')


def test_our_own_reader_finds_the_cases_and_their_patients(written):
    cases, _ = find_cases(written[0])
    assert [(case.name, case.patient) for case in cases] == [
        ('volume-0', 'patient-0'),
        ('volume-1', 'patient-1'),
        ('volume-2', 'patient-1'),
    ]
    volume = read_case(cases[2])
    assert volume.scan.orientation == 'LAS'
    # Canonical axes run to the head, the back and the left: the liver is in the first half of the columns.
    assert np.argwhere(volume.labels > 0)[:, 2].mean() < volume.hu.shape[2] / 2 - 20


def test_nothing_else_is_written(written):
    out, paths = written
    files = sorted(str(path.relative_to(out)) for path in out.rglob('*') if path.is_file())
    masks = [f'segmentations/segmentation-{n}.nii.gz' for n in range(3)]
    assert files == ['patients.csv', *masks, *(f'volume_pt1/{path.name}' for path in paths)]
    assert [path.name for path in out.parent.iterdir()] == ['two']


@pytest.mark.usefixtures('instant')
def test_every_fourth_patient_was_scanned_twice(tmp_path):
    paths = make_phantoms(tmp_path / 'out', patients=7, seed=3)
    rows = [row.split(',') for row in (tmp_path / 'out/patients.csv').read_text().splitlines()]
    patients = [0, 1, 1, 2, 3, 4, 5, 5, 6]
    assert rows == [['case', 'patient'], *([f'volume-{n}', f'patient-{k}'] for n, k in enumerate(patients))]
    assert [int(nib.load(path).dataobj[0, 0, 0]) for path in paths] == [0, 10, 11, 20, 30, 40, 50, 51, 60]


@pytest.mark.usefixtures('instant')
def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'link').symlink_to('empty')
    paths = make_phantoms(tmp_path / 'link', patients=2, seed=0)
    assert all(path.is_file() and path.parents[1] == tmp_path / 'link' for path in paths)
    assert sorted(os.listdir(tmp_path)) == ['empty', 'link']


@pytest.mark.usefixtures('instant')
@pytest.mark.parametrize('kind', ['folder', 'file'])
def test_what_is_there_is_never_overwritten(tmp_path, kind):
    out = tmp_path / 'out'
    mine = out / 'mine.txt' if kind == 'folder' else out
    mine.parent.mkdir(exist_ok=True)
    mine.write_text('keep')
    with pytest.raises(UserError, match=r'out: .*expected a new or empty folder'):
        make_phantoms(out, patients=1, seed=0)
    assert mine.read_text() == 'keep'
    assert os.listdir(tmp_path) == ['out']


@pytest.mark.parametrize(('patients', 'seed'), [(0, 0), (-1, 0), (1, -1)])
def test_numbers_out_of_range_are_refused(tmp_path, patients, seed):
    with pytest.raises(UserError, match=f'patients={patients}, seed={seed}; expected'):
        make_phantoms(tmp_path / 'out', patients, seed)
    assert not (tmp_path / 'out').exists()


@pytest.mark.usefixtures('instant')
def test_a_run_cut_short_leaves_nothing(tmp_path, monkeypatch):
    real, calls = phantom.write_nifti, []

    def failing(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
        calls.append(path)
        if len(calls) == 3:
            raise OSError('disk full')
        real(path, array, affine)

    monkeypatch.setattr(phantom, 'write_nifti', failing)
    with pytest.raises(OSError, match='disk full'):
        make_phantoms(tmp_path / 'out', patients=3, seed=0)
    assert not any(tmp_path.iterdir())


def test_arrays_are_of_the_promised_kind_and_size(cohort):
    for scan in cohort.values():
        assert scan.hu.dtype == np.int16
        assert scan.labels.dtype == np.uint8
        assert scan.hu.shape == scan.labels.shape
        assert scan.hu.shape[:2] == (256, 256)
        assert 30 <= scan.hu.shape[2] <= 60
        assert scan.hu.min() == -1024
        assert set(np.unique(scan.labels)) <= {0, LIVER, TUMOUR}
        np.testing.assert_allclose(np.abs(np.diag(scan.affine)[:3]), scan.spacing)


def test_spacings_vary_within_their_limits(cohort):
    spacings = np.array([scan.spacing for scan in cohort.values()])
    assert ((spacings[:, :2] >= 1.29) & (spacings[:, :2] <= 1.7)).all()
    assert ((spacings[:, 2] >= 2) & (spacings[:, 2] <= 5)).all()
    assert len(set(spacings[:, 0])) == len(cohort)
    assert len(set(spacings[:, 2])) >= 2


def test_tissues_have_the_brightness_of_a_portal_venous_ct(cohort):
    for scan in cohort.values():
        liver = scan.hu[scan.labels == LIVER]
        assert 70 <= liver.mean() <= 130
        # Vessels stand out from the parenchyma, and bone, lung, fat and air are all in view.
        assert np.percentile(liver, 99) > liver.mean() + 30
        assert 700 > np.percentile(scan.hu[scan.hu > 350], 50) > 400
        assert -115 < np.median(scan.hu[(scan.hu > -160) & (scan.hu < -40)]) < -85
        air, lung = np.mean(scan.hu[118:138, 246:252]), scan.hu[(scan.hu > -920) & (scan.hu < -740)]
        assert -1003 < air < -990
        assert lung.size > 0.01 * scan.hu.size
        assert -850 < np.median(lung) < -810


def test_noise_is_that_of_a_scanner(cohort):
    for scan in cohort.values():
        air = scan.hu[118:138, 246:252].astype(float)
        air -= air.mean()
        assert 7 < air.std() < 15.5
        # Neighbours within a slice share it; neighbouring slices do not.
        assert (air[1:] * air[:-1]).mean() / air.var() > 0.2
        assert abs((air[..., 1:] * air[..., :-1]).mean()) / air.var() < 0.12


def test_tumours_are_darker_than_the_liver(cohort):
    contrasts = []
    for scan in cohort.values():
        liver = scan.hu[scan.labels == LIVER].mean()
        contrasts += [liver - scan.hu[lesion].mean() for lesion in lesions(scan) if lesion.sum() > 30]
    assert min(contrasts) > 10
    assert np.mean(contrasts) > 20
    # Some are easy and some are not.
    assert max(contrasts) - min(contrasts) > 10
    tumours = [scan for scan in cohort.values() if (scan.labels == TUMOUR).any()]
    for scan in tumours:
        assert scan.hu[scan.labels == LIVER].mean() - scan.hu[scan.labels == TUMOUR].mean() > 15


def test_tumours_are_few_and_of_sensible_size(cohort):
    for (patient, _), scan in cohort.items():
        volumes = [lesion.sum() * np.prod(scan.spacing) for lesion in lesions(scan)]
        diameters = [(6 * volume / np.pi) ** (1 / 3) for volume in volumes]
        if patient == 5:
            assert diameters == []
            continue
        assert 1 <= len(diameters) <= 6
        assert 12 < max(diameters) < 62
        assert min(diameters) > 2.5


def test_tumours_lie_in_the_liver(cohort):
    for scan in cohort.values():
        for lesion in lesions(scan):
            shell = ndimage.binary_dilation(lesion, np.ones((3, 3, 1))) & ~lesion
            assert (scan.labels[shell] == LIVER).mean() > 0.6


def test_the_liver_is_one_organ_of_human_size(cohort):
    for scan in cohort.values():
        liver = scan.labels > 0
        components, _ = ndimage.label(liver)
        assert np.bincount(components.ravel())[1:].max() > 0.98 * liver.sum()
        assert 1000 < liver.sum() * np.prod(scan.spacing) / 1000 < 2800  # ml
        # All of it is in view.
        assert not liver[:, :, [0, -1]].any()


def test_anatomy_is_the_right_way_round(cohort):
    for scan in cohort.values():
        body = scan.hu > -300
        middle, liver = centre(scan, body), centre(scan, scan.labels > 0)
        assert liver[0] > middle[0] + 20, 'the liver is on the right'
        x = scan.affine[0, 0] * np.arange(256) + scan.affine[0, 3]
        bone = (scan.hu > 350) & (np.abs(x - middle[0]) < 25)[:, None, None]
        assert centre(scan, bone)[1] < middle[1] - 30, 'the spine is at the back'
        lung = (scan.hu > -920) & (scan.hu < -740)
        assert centre(scan, lung)[2] > liver[2] + 20, 'the lungs are above'


def test_the_second_visit_is_the_same_patient_later(cohort):
    first, second = cohort[1, 0], cohort[1, 1]
    assert first.spacing[0] != second.spacing[0]
    assert first.spacing[2] != second.spacing[2]

    def volume(scan: Phantom, label: int) -> float:
        return float((scan.labels >= label).sum() * np.prod(scan.spacing))

    assert volume(second, LIVER) == pytest.approx(volume(first, LIVER), rel=0.02)
    np.testing.assert_allclose(centre(second, second.labels > 0), centre(first, first.labels > 0), atol=3)
    assert 1.05 < volume(second, TUMOUR) / volume(first, TUMOUR) < 1.8
