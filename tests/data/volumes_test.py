"""Reading NIfTI: every orientation gives the same arrays, every bad file an error with its name."""

import gzip
import itertools
import struct
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from liver_jax.data.formats.nifti import write_nifti
from liver_jax.data.layouts import Case
from liver_jax.data.volumes import Volume, open_scan, read_case, read_label_map, read_probabilities
from liver_jax.errors import UserError

AFFINE = np.diag([-0.8, -0.7, 2.5, 1.0])  # LPS: the canonical frame, with axes (column, row, slice)
SHAPE = (5, 6, 4)
# Letter -> axis of the canonical array [slice, row, column], and the direction in RAS+ millimetres.
AXIS = {'L': 2, 'R': 2, 'P': 1, 'A': 1, 'S': 0, 'I': 0}
TOWARDS = {'L': (-1, 0, 0), 'R': (1, 0, 0), 'P': (0, -1, 0), 'A': (0, 1, 0), 'S': (0, 0, 1), 'I': (0, 0, -1)}
DIMENSIONS, DATATYPE, SPACING, AFFINE_ROWS = 42, 70, 80, 280  # bytes into a NIfTI-1 header

FULL_DISK = """
import resource, sys
from pathlib import Path
import numpy as np
from liver_jax.data.formats.nifti import write_nifti

resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
write_nifti(Path(sys.argv[1]), np.zeros((50, 50, 50), np.int16), np.eye(4))
"""


@pytest.fixture
def case(tmp_path: Path) -> Case:
    """A valid case, uncompressed, to be spoilt by the tests."""
    case = nifti(tmp_path / 'volume-0.nii', tmp_path / 'segmentation-0.nii')
    save(case.images[0], np.arange(-60, 60).reshape(SHAPE).astype(np.int16))
    save(case.labels[0], (np.arange(120).reshape(SHAPE) % 3).astype(np.uint8))
    return case


def nifti(image: Path, label: Path) -> Case:
    return Case('volume-0', 'nifti', (image,), (label,), '')


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    nib.save(nib.Nifti1Image(array, affine), path)


def patch(path: Path, offset: int, layout: str, *values: float) -> None:
    content = bytearray(path.read_bytes())
    struct.pack_into(layout, content, offset, *values)
    path.write_bytes(content)


def check_refused(case: Case, match: str) -> str:
    with pytest.raises(UserError, match=match) as refusal:
        read_case(case)
    message = str(refusal.value)
    assert '\n' not in message
    return message


def test_axes_are_slice_row_column_and_values_as_stored(case):
    volume = read_case(case)
    stored = np.arange(-60, 60).reshape(SHAPE)
    assert volume.hu.dtype == np.int16
    assert volume.labels.dtype == np.uint8
    np.testing.assert_array_equal(volume.hu, stored.transpose(2, 1, 0))
    np.testing.assert_array_equal(volume.labels, (stored + 60).transpose(2, 1, 0) % 3)
    assert volume.scan.spacing == pytest.approx((2.5, 0.7, 0.8), abs=1e-6)
    assert (volume.scan.orientation, volume.scan.image.shape) == ('LPS', SHAPE)


def test_one_body_stored_in_all_48_orientations_gives_the_same_volume(case):
    rng = np.random.default_rng(0)
    hu, labels = rng.integers(-1000, 1000, (4, 6, 5)).astype(np.int16), rng.integers(0, 3, (4, 6, 5)).astype(np.uint8)
    spacing = (2.5, 0.7, 0.8)
    for letters in itertools.product('LR', 'PA', 'SI'):
        for code in map(''.join, itertools.permutations(letters)):
            order = [AXIS[letter] for letter in code]
            mirror = tuple(slice(None, None, -1 if letter in 'RAI' else 1) for letter in code)
            affine = np.eye(4)
            affine[:3, :3] = np.transpose([np.multiply(TOWARDS[letter], spacing[AXIS[letter]]) for letter in code])
            affine[:3, 3] = rng.uniform(-100, 100, 3)
            save(case.images[0], hu.transpose(order)[mirror], affine)
            save(case.labels[0], labels.transpose(order)[mirror], affine)
            volume = read_case(case)
            assert volume.scan.orientation == code
            assert np.array_equal(volume.hu, hu), code
            assert np.array_equal(volume.labels, labels), code
            assert volume.scan.spacing == pytest.approx(spacing, abs=1e-6), code


def test_a_tilted_scan_goes_to_the_nearest_axes(case):
    turn = np.eye(4)
    cos, sin = np.cos(np.pi / 9), np.sin(np.pi / 9)
    turn[1:3, 1:3] = [[cos, -sin], [sin, cos]]
    straight = read_case(case).hu
    save(case.images[0], np.arange(-60, 60).reshape(SHAPE).astype(np.int16), turn @ AFFINE)
    assert np.array_equal(read_case(case).hu, straight)


@pytest.mark.parametrize('ending', ['.nii', '.nii.gz'])
@pytest.mark.parametrize('dtype', [np.int16, np.uint8, np.uint16, np.float32])
def test_labels_of_any_type_compressed_or_not(case, tmp_path, ending, dtype):
    label = tmp_path / f'label{ending}'
    save(label, (np.arange(120).reshape(SHAPE) % 3).astype(dtype))
    volume = read_case(nifti(case.images[0], label))
    np.testing.assert_array_equal(volume.labels, np.arange(120).reshape(SHAPE).transpose(2, 1, 0) % 3)


def test_a_file_with_slope_and_intercept_is_scaled_to_hu(case):
    image = nib.Nifti1Image(np.full(SHAPE, 1100, np.int16), AFFINE)
    image.header.set_slope_inter(2, -1024)
    nib.save(image, case.images[0])
    stored = np.asarray(nib.load(case.images[0]).dataobj.get_unscaled())
    volume = read_case(case)
    assert volume.hu.dtype == np.float32
    np.testing.assert_array_equal(volume.hu, 2.0 * stored.transpose(2, 1, 0) - 1024)


@pytest.mark.parametrize(
    ('value', 'said'), [(3, 'labels 3;'), (-1, 'labels -1;'), (1.5, 'labels 1.5;'), (np.nan, 'labels nan;')]
)
def test_a_label_outside_the_set_is_named(case, value, said):
    labels = np.zeros(SHAPE, np.float32)
    labels[0, 0, :3] = 1, 2, value
    save(case.labels[0], labels)
    assert str(case.labels[0]) in check_refused(case, said)


def test_of_many_strange_labels_the_first_are_named(case):
    save(case.labels[0], np.arange(120).reshape(SHAPE).astype(np.int16))
    check_refused(case, 'labels 4, 8, 12, 16, 20, …; expected only 0 ')


def test_labels_are_aligned_by_index_whatever_their_affine_says(case):
    before = read_case(case)
    save(case.labels[0], (np.arange(120).reshape(SHAPE) % 3).astype(np.uint8), np.diag([3.0, 3.0, 3.0, 1.0]))
    after = read_case(case)
    assert np.array_equal(after.labels, before.labels)
    assert after.scan.spacing == before.scan.spacing


def test_shapes_that_differ_are_both_given(case):
    save(case.labels[0], np.zeros((5, 6, 3), np.uint8))
    assert str(case.labels[0]) in check_refused(case, r'shape 5x6x3, but volume-0\.nii has 5x6x4')


@pytest.mark.parametrize('which', ['images', 'labels'])
@pytest.mark.parametrize(
    'content',
    [b'', b'<html>404</html>' * 100, gzip.compress(b'no header'), b'\x00' * 400],
    ids=['empty', 'a page', 'compressed text', 'zeros'],
)
def test_what_is_no_nifti_is_named(case, which, content):
    (path,) = getattr(case, which)
    path.write_bytes(content)
    assert str(path) in check_refused(case, 'not a readable NIfTI file')


def test_a_plain_file_named_gz_is_named(case, tmp_path):
    disguised = case.images[0].rename(tmp_path / 'volume-0.nii.gz')
    check_refused(nifti(disguised, case.labels[0]), r'volume-0\.nii\.gz: not a readable NIfTI file')


@pytest.mark.parametrize('ending', ['.nii', '.nii.gz'])
@pytest.mark.parametrize('part', [0.5, 0.9])
def test_a_truncated_download_is_named(case, tmp_path, ending, part):
    path = tmp_path / f'cut{ending}'
    save(path, np.random.default_rng(0).integers(-1000, 1000, (40, 40, 30)).astype(np.int16))
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    save(case.labels[0], np.zeros((40, 40, 30), np.uint8))
    check_refused(nifti(path, case.labels[0]), f'cut{ending}: .*download it again')


def test_what_has_not_three_axes_is_refused(case):
    save(case.images[0], np.zeros((5, 6), np.int16))
    check_refused(case, 'an image of shape 5x6; expected a NIfTI volume with three axes')
    save(case.images[0], np.zeros((5, 6, 4, 2), np.int16))
    check_refused(case, r'2 volumes in one file \(shape 5x6x4x2\); expected one')


@pytest.mark.parametrize('more', [(1,), (1, 1)])
def test_further_axes_of_length_one_are_left_out(case, more):
    before = read_case(case).hu
    save(case.images[0], np.arange(-60, 60).reshape(*SHAPE, *more).astype(np.int16))
    np.testing.assert_array_equal(read_case(case).hu, before)


def test_an_axis_without_voxels_is_refused(case):
    for path in (case.images[0], case.labels[0]):
        patch(path, DIMENSIONS + 4, '<h', 0)
    check_refused(case, 'an image of shape 5x6x0')


def test_a_header_that_promises_more_than_there_is(case, tmp_path):
    (image,), (label,) = case.images, case.labels
    patch(label, DIMENSIONS, '<3h', 300, 300, 300)
    check_refused(case, r'segmentation-0\.nii: its voxels cannot be read \(300x300x300 by its header, in a file of 472')
    compressed = tmp_path / 'huge.nii.gz'
    compressed.write_bytes(gzip.compress(label.read_bytes()))
    check_refused(nifti(image, compressed), r'huge\.nii\.gz: its voxels cannot be read')


def test_a_header_that_claims_more_than_any_scanner_makes_is_refused_before_memory_is_taken(case):
    image = nib.Nifti2Image(np.zeros(SHAPE, np.int16), AFFINE)
    nib.save(image, case.images[0])
    patch(case.images[0], 24, '<3q', 100_000, 100_000, 100_000)
    check_refused(case, '100000x100000x100000 by its header')


@pytest.mark.parametrize('code', [0, 1, 255, 12345])
def test_a_header_with_a_nonsensical_type_is_refused(case, code):
    patch(case.labels[0], DATATYPE, '<h', code)
    check_refused(case, r'segmentation-0\.nii: not a readable NIfTI file')


def test_coloured_and_complex_voxels_are_refused(case):
    save(case.labels[0], np.zeros(SHAPE, [('R', 'u1'), ('G', 'u1'), ('B', 'u1')]))
    check_refused(case, r'segmentation-0\.nii: voxels of type')
    save(case.labels[0], np.zeros(SHAPE, np.complex64))
    check_refused(case, r'segmentation-0\.nii: voxels of type complex64')


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_hu_that_are_no_numbers_are_refused(case, value):
    hu = np.zeros(SHAPE, np.float32)
    hu[1, 2, 3] = value
    save(case.images[0], hu)
    check_refused(case, r'volume-0\.nii: NaN or infinite voxels')


@pytest.mark.parametrize(
    'rows',
    [np.zeros((3, 4)), AFFINE[:3] * [1, 1, 0, 1], AFFINE[:3, [0, 0, 2, 3]], np.full((3, 4), np.nan)],
    ids=['zeros', 'a flat axis', 'two axes alike', 'NaN'],
)
def test_a_singular_affine_is_refused(case, rows):
    patch(case.images[0], AFFINE_ROWS, '<12f', *rows.ravel())
    check_refused(case, r'volume-0\.nii: its affine is singular')


def test_spacing_is_that_of_the_affine_and_a_header_that_says_another_is_noted(case):
    patch(case.images[0], SPACING, '<f', 3.0)
    scan = open_scan(case)
    assert scan.spacing == pytest.approx((2.5, 0.7, 0.8), abs=1e-6)
    assert scan.image.notes == ('its header gives 3x0.7x2.5 mm beside an affine of 0.8x0.7x2.5 mm; the affine is used',)


@pytest.mark.parametrize('mm', [1e-6, 1e5])
def test_spacing_that_no_scanner_has_is_refused(case, mm):
    patch(case.images[0], AFFINE_ROWS, '<12f', *(AFFINE * [mm, 1, 1, 1])[:3].ravel())
    check_refused(case, r'volume-0\.nii: voxel spacing .*; expected a CT')


def test_planes_come_one_by_one_where_the_file_has_them_so(case):
    assert open_scan(case).held_gb == 30 * 5e-9
    assert [plane.index for plane in open_scan(case).planes()] == [0, 1, 2, 3]
    turned = np.diag([-0.8, -0.7, -2.5, 1.0])
    save(case.images[0], np.zeros(SHAPE, np.int16), turned)
    assert [plane.index for plane in open_scan(case).planes()] == [3, 2, 1, 0]
    save(case.images[0], np.zeros(SHAPE, np.int16), turned[:, [2, 1, 0, 3]])
    assert open_scan(case).held_gb == 120 * 5e-9


def test_a_case_without_labels_has_none(case):
    volume = read_case(Case('volume-0', 'nifti', case.images, (), ''))
    assert volume.scan.labels is None
    assert not volume.labels.any()


def test_written_volumes_read_back(tmp_path):
    hu = np.random.default_rng(0).integers(-1000, 1000, SHAPE).astype(np.int16)
    for ending in ('.nii', '.nii.gz'):
        case = nifti(tmp_path / f'volume-0{ending}', tmp_path / f'segmentation-0{ending}')
        write_nifti(case.images[0], hu, AFFINE)
        write_nifti(case.labels[0], np.ones(SHAPE, np.uint8), AFFINE)
        volume = read_case(case)
        assert isinstance(volume, Volume)
        assert np.array_equal(volume.hu, hu.transpose(2, 1, 0))
    magic = [path.read_bytes()[:2] == b'\x1f\x8b' for path in sorted(tmp_path.glob('volume*'))]
    assert magic == [False, True]


def test_a_full_disk_leaves_the_old_volume_and_no_litter(tmp_path):
    path = tmp_path / 'volume-0.nii'
    write_nifti(path, np.zeros(SHAPE, np.int16), AFFINE)
    before = path.read_bytes()
    run = subprocess.run([sys.executable, '-c', FULL_DISK, path], capture_output=True, text=True)
    assert 'OSError: [Errno 27] File too large' in run.stderr
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize('axes', ['LAS', 'RAS', 'SLP', 'PIR', 'ASL'])
def test_a_label_map_alone_comes_in_the_canonical_frame(tmp_path, axes):
    affine = np.array([[-0.7, 0.1, 0, 90], [0, 0.8, 0, -120], [0, 0, 2.5, 40], [0, 0, 0, 1]])
    array = np.zeros((5, 6, 7), np.float64)  # whole numbers stored as floats are labels too
    array[1, 2, 3], array[4, 5, 6] = 2, 1
    turn = nib.orientations.ornt_transform(nib.io_orientation(affine), nib.orientations.axcodes2ornt(axes))
    turned = nib.Nifti1Image(array, affine).as_reoriented(turn)
    write_nifti(tmp_path / 'mask.nii.gz', np.asarray(turned.dataobj), turned.affine)
    found = read_label_map(tmp_path / 'mask.nii.gz')
    assert (found.values.shape, found.values.dtype) == ((7, 6, 5), np.uint8)
    assert found.spacing == pytest.approx((2.5, np.hypot(0.1, 0.8), 0.7))
    for value, place in ((2, (1, 2, 3)), (1, (4, 5, 6))):
        index = np.argwhere(found.values == value)
        assert len(index) == 1
        np.testing.assert_allclose(found.affine @ [*index[0], 1], affine @ [*place, 1], atol=1e-4)
    directions = np.sign(np.diag(found.affine[:3, [2, 1, 0]]))  # left and back are minus x and y of RAS
    assert directions.tolist() == [-1, -1, 1]


def test_labels_off_by_rounding_are_whole_and_a_lone_value_is_a_mask(tmp_path):
    array = np.array([[[0, 1.00000012, 1.9995]]], np.float32)
    write_nifti(tmp_path / 'a.nii', array, np.diag([-1.0, -1, 1, 1]))
    assert read_label_map(tmp_path / 'a.nii').values.ravel().tolist() == [0, 1, 2]
    write_nifti(tmp_path / 'a.nii', array + np.float32(0.002), np.diag([-1.0, -1, 1, 1]))
    with pytest.raises(UserError, match=r'labels 0\.002'):
        read_label_map(tmp_path / 'a.nii')
    write_nifti(tmp_path / 'b.nii', np.array([[[0, 255, 255]]], np.uint8), np.diag([-1.0, -1, 1, 1]))
    assert read_label_map(tmp_path / 'b.nii', any_value=True).values.ravel().tolist() == [0, 1, 1]
    for bad in ([0, 255, 3], [0, -1, -1], [0, np.nan, 0]):
        write_nifti(tmp_path / 'b.nii', np.array([[bad]], np.float32), np.diag([-1.0, -1, 1, 1]))
        with pytest.raises(UserError, match='expected only 0'):
            read_label_map(tmp_path / 'b.nii', any_value=True)


def test_probabilities_are_from_nought_to_one(tmp_path):
    affine = np.diag([-1.0, -1, 1, 1])
    write_nifti(tmp_path / 'p.nii', np.array([[[0, 32768, 65535]]], np.uint16), affine, slope=1 / 65535)
    np.testing.assert_allclose(read_probabilities(tmp_path / 'p.nii').values.ravel(), [0, 0.5, 1], atol=1e-5)
    for bad in (1.5, np.nan, -0.1):
        write_nifti(tmp_path / 'p.nii', np.array([[[0, bad]]], np.float32), affine)
        with pytest.raises(UserError, match='expected probabilities from 0 to 1'):
            read_probabilities(tmp_path / 'p.nii')
