"""CT series and segmentations in DICOM: read exactly, or refused by name."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from liver_jax.data.formats.dicom import read_segmentation, read_series
from liver_jax.data.formats.raster import Raster
from liver_jax.errors import UserError
from small_dicom import (
    COLUMNS,
    JPEG_LOSSLESS,
    ROWS,
    SLICES,
    SPACING,
    enhanced,
    jpeg_lossless,
    save_all,
    segmentation,
    slices,
    small_hu,
    write_series,
)

LIVER, TUMOUR = np.zeros((2, SLICES, ROWS, COLUMNS), bool)
LIVER[3:9, 4:20, 5:15] = True
TUMOUR[5:10, 8:12, 13:17] = True  # beside the liver too
BOTH = {'Liver': LIVER, 'Tumor': TUMOUR}


def array(raster: Raster) -> np.ndarray:
    """[slice, row, column]"""
    planes = list(raster.planes())
    assert {plane.shape for plane in planes} == {raster.shape[:2]}
    assert len(planes) == raster.shape[2]
    return np.stack(planes, axis=-1).transpose(2, 1, 0)


def check_refused(files: Iterable[Path], match: str) -> str:
    with pytest.raises(UserError, match=match) as refusal:
        array(read_series(tuple(files)))
    assert '\n' not in str(refusal.value)
    return str(refusal.value)


def each(change: Callable[[Dataset], object]) -> Callable[[list[Dataset]], None]:
    return lambda made: [change(one) for one in made] and None


def put(one: Dataset, **fields: object) -> None:
    for name, value in fields.items():
        setattr(one, name, value)


def test_a_series_is_sorted_by_position_and_in_hu(tmp_path):
    hu = small_hu()
    raster = read_series(write_series(tmp_path, hu))
    assert raster.shape == (COLUMNS, ROWS, SLICES)
    assert raster.notes == ()
    assert array(raster).dtype == np.int16
    np.testing.assert_array_equal(array(raster), hu)
    np.testing.assert_array_equal(array(raster), hu)  # every call reads anew


def test_it_lies_where_the_same_volume_lies_as_nifti(tmp_path):
    """Voxel by voxel, through the affine: DICOM's millimetres go left and back, those of NIfTI right and forward."""
    hu = small_hu()
    row, column = np.array([0.6, 0.8, 0.0]), np.array([-0.8, 0.6, 0.0])  # a patient who lies turned

    def turn(made: list[Dataset]) -> None:
        for k, one in enumerate(made):
            one.ImageOrientationPatient = [*row, *column]
            one.ImagePositionPatient = [10.0, -20.0, 30.0 - 2.5 * k]  # head first

    raster = read_series(write_series(tmp_path, hu, turn))
    nib.save(nib.Nifti1Image(np.stack(list(raster.planes()), -1), raster.affine), tmp_path / 'same.nii')
    image = nib.load(tmp_path / 'same.nii')
    for k, r, c in ((0, 0, 0), (11, 31, 23), (4, 30, 2)):
        place = np.array([10.0, -20.0, 30.0 - 2.5 * k]) + c * SPACING[2] * row + r * SPACING[1] * column
        i, j, plane = np.rint(np.linalg.inv(image.affine) @ [*(place * [-1, -1, 1]), 1]).astype(int)[:3]
        assert image.dataobj[i, j, plane] == hu[k, r, c]
    assert nib.affines.voxel_sizes(image.affine) == pytest.approx([0.6, 0.8, 2.5], abs=1e-5)


def test_each_slice_has_its_own_slope_and_intercept(tmp_path):
    hu = small_hu()

    def rescale(made: list[Dataset]) -> None:
        for k, one in enumerate(made):
            one.RescaleSlope, one.RescaleIntercept = 0.5 + k, -10 * k

    read = array(read_series(write_series(tmp_path, hu, rescale)))
    assert read.dtype == np.float32
    k = np.arange(SLICES)[:, None, None]
    np.testing.assert_allclose(read, (hu + 24.0) * (0.5 + k) - 10 * k, rtol=1e-6)


def test_unsigned_12_bits_with_an_overlay_above_them(tmp_path):
    hu = np.clip(small_hu(), -1000, 3000)

    def old_scanner(one: Dataset) -> None:
        stored = np.frombuffer(one.PixelData, '<i2').astype(np.int32) - 24 + 1024
        overlay = (np.arange(stored.size) % 16) << 12
        put(one, BitsStored=12, HighBit=11, PixelRepresentation=0, RescaleIntercept=-1024)
        one.PixelData = (stored | overlay).astype('<u2').tobytes()

    np.testing.assert_array_equal(array(read_series(write_series(tmp_path, hu, each(old_scanner)))), hu)


def test_signed_12_bits_whose_sign_is_not_carried_on(tmp_path):
    def cut(one: Dataset) -> None:
        one.BitsStored, one.HighBit = 12, 11
        one.PixelData = (np.frombuffer(one.PixelData, '<u2') & 0x0FFF).tobytes()

    np.testing.assert_array_equal(array(read_series(write_series(tmp_path, small_hu(), each(cut)))), small_hu())


def test_low_padding_stays_and_high_padding_becomes_air(tmp_path):
    hu = small_hu()
    hu[:, 0] = -3000
    low = read_series(write_series(tmp_path / 'low', hu, each(lambda one: put(one, PixelPaddingValue=-2976))))
    assert (array(low)[:, 0] == -3000).all()

    def unsigned(one: Dataset) -> None:
        stored = np.frombuffer(one.PixelData, '<i2').astype(np.int32) - 24 + 1024
        stored[:COLUMNS] = 63536
        put(one, PixelRepresentation=0, RescaleIntercept=-1024)
        one.PixelData, one.PixelPaddingValue = stored.astype('<u2').tobytes(), 63536

    high = array(read_series(write_series(tmp_path / 'high', np.maximum(hu, -1000), each(unsigned))))
    assert (high[:, 0] == -1000).all()
    np.testing.assert_array_equal(high[:, 1:], hu[:, 1:])


def test_monochrome1_is_shown_otherwise_but_has_the_same_hu(tmp_path):
    files = write_series(tmp_path, small_hu(), each(lambda one: put(one, PhotometricInterpretation='MONOCHROME1')))
    np.testing.assert_array_equal(array(read_series(files)), small_hu())


@pytest.mark.parametrize('syntax', [RLELossless, JPEGLSLossless, JPEG2000Lossless], ids=lambda syntax: syntax.name)
def test_compressed_series(tmp_path, syntax):
    hu = np.tile(small_hu(), (1, 2, 3))  # JPEG 2000 halves its pictures five times
    files = write_series(tmp_path, hu, each(lambda one: one.compress(syntax)))
    assert dcmread(files[0]).file_meta.TransferSyntaxUID == syntax
    np.testing.assert_array_equal(array(read_series(files)), hu)


@pytest.mark.parametrize('padding', [b'', b'\0\0', b'\xff\0'])
def test_jpeg_lossless_as_archives_have_it(tmp_path, padding):
    def compress(one: Dataset) -> None:
        jpeg_lossless(one)
        one.PixelData = encapsulate([JPEG_LOSSLESS + padding])

    files = write_series(tmp_path, np.zeros((3, 16, 16), np.int16), each(compress))
    rows, columns = np.mgrid[:16, :16]
    np.testing.assert_array_equal(array(read_series(files)), np.stack(3 * [40 * rows - 7 * columns]))


@pytest.mark.parametrize(
    ('content', 'said'),
    [
        (JPEG_LOSSLESS[:-20], 'compressed data without an end'),  # a decoder might wait for more
        (JPEG_LOSSLESS.replace(b'\0\x10\0\x10', b'\xff\xff\xff\xff'), r'compressed \(65535, 65535\) where the header'),
        (JPEG_LOSSLESS[:8] + JPEG_LOSSLESS[-2:], r'compressed \(0, 0\) where the header'),
    ],
)
def test_compressed_data_that_would_keep_a_decoder_busy_are_refused(tmp_path, content, said):
    def spoil(one: Dataset) -> None:
        jpeg_lossless(one)
        one.PixelData = encapsulate([content])

    check_refused(write_series(tmp_path, np.zeros((3, 16, 16), np.int16), each(spoil)), f'its pixels .*{said}')


@pytest.mark.parametrize('syntax', [ImplicitVRLittleEndian, ExplicitVRBigEndian], ids=lambda syntax: syntax.name)
def test_other_plain_syntaxes(tmp_path, syntax):
    def change(one: Dataset) -> None:
        one.file_meta.TransferSyntaxUID = syntax
        if not syntax.is_little_endian:
            one.PixelData = np.frombuffer(one.PixelData, '<i2').astype('>i2').tobytes()

    made = slices(small_hu())
    for k, one in enumerate(made):
        change(one)
        one.save_as(tmp_path / f'{k}', implicit_vr=syntax.is_implicit_VR, little_endian=syntax.is_little_endian)
    np.testing.assert_array_equal(array(read_series(tuple(tmp_path.iterdir()))), small_hu())


def test_files_without_preamble_as_old_archives_have_them(tmp_path):
    for k, one in enumerate(slices(small_hu())):
        del one.file_meta
        one.save_as(tmp_path / f'{k}.ima', implicit_vr=True, little_endian=True)
    np.testing.assert_array_equal(array(read_series(tuple(tmp_path.iterdir()))), small_hu())


@pytest.mark.parametrize('syntax', [HTJ2KLossless, DeflatedExplicitVRLittleEndian, UID('1.2.840.113619.5.2')])
def test_a_syntax_that_cannot_be_decoded_is_refused_by_its_name(tmp_path, syntax):
    files = write_series(tmp_path, small_hu())
    if syntax.is_private:  # pydicom does not write it
        name = ExplicitVRLittleEndian.encode() + b'\0'
        files[3].write_bytes(files[3].read_bytes().replace(name, syntax.encode().ljust(len(name), b'\0')))
    else:
        one = dcmread(files[3])
        one.file_meta.TransferSyntaxUID = syntax
        if syntax.is_encapsulated:
            one.PixelData = encapsulate([one.PixelData])
        one.save_as(files[3])
    assert str(files[3]) in check_refused(
        files, f'compressed as {re.escape(syntax.name)}, which cannot be decoded here'
    )


def test_one_enhanced_file_is_a_series(tmp_path):
    save_all(tmp_path, [enhanced(small_hu())])
    raster = read_series(tuple(tmp_path.iterdir()))
    np.testing.assert_array_equal(array(raster), small_hu())
    assert raster.affine[2].tolist() == [0, 0, 2.5, -300]


def test_slices_that_are_there_twice_count_once_and_that_is_noted(tmp_path):
    made = slices(small_hu())
    files = save_all(tmp_path, [*made, made[4], made[5]])
    raster = read_series(files)
    np.testing.assert_array_equal(array(raster), small_hu())
    assert raster.notes == ('2 slices were there twice, pixel by pixel, and count once',)


def test_two_acquisitions_in_one_series_are_refused_with_what_tells_them_apart(tmp_path):
    first, second = slices(small_hu(0)), slices(small_hu(1), AcquisitionNumber=2)
    for one in second:
        one.SeriesInstanceUID = first[0].SeriesInstanceUID
    check_refused(
        save_all(tmp_path, first + second), r'in the same place as IM.*\(AcquisitionNumber differs: . and .\)'
    )


def test_two_acquisitions_that_take_turns_are_refused_but_not_one_after_the_other(tmp_path):
    made = slices(small_hu())
    for k, one in enumerate(made):
        one.AcquisitionNumber = 1 + (k >= 6)
    read_series(save_all(tmp_path / 'blocks', made))
    for k, one in enumerate(made):
        one.AcquisitionNumber = 1 + k % 2
    check_refused(save_all(tmp_path / 'turns', made), 'slices of AcquisitionNumber 1 and 2 take turns')


def test_a_missing_slice_is_refused_with_its_place(tmp_path):
    made = slices(small_hu())
    files = save_all(tmp_path, made)
    message = check_refused(files[:5] + files[6:], r'a slice is missing: 5\.00 mm from .*, else 2\.50 mm')
    assert f'{files[4].name} to {files[6].name}' in message


def move(made: list[Dataset], *places: tuple[float, float, float]) -> None:
    for one, place in zip(made, places, strict=True):
        one.ImagePositionPatient = list(place)


def thick_end(made: list[Dataset]) -> None:
    heights = np.cumsum([0, *6 * [1.0], *5 * [1.2]])
    move(made, *[(0, 0, z) for z in heights])


def two_spacings(made: list[Dataset]) -> None:
    move(made, *[(0, 0, z) for z in np.cumsum([0, *6 * [1.0], *5 * [5.0]])])


def sideways(made: list[Dataset]) -> None:
    move(made, *[(3 * (k == 5), 0, k) for k in range(SLICES)])


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        (thick_end, r'slices are unevenly spaced, 1\.00 to 1\.20 mm apart'),
        (two_spacings, r'slices are unevenly spaced, 1\.00 to 5\.00 mm apart'),
        (sideways, 'slices are unevenly spaced'),
        (lambda made: put(made[2], PixelSpacing=[0.9, 0.6]), r'PixelSpacing \(0\.9, 0\.6\), but .* has \(0\.8, 0\.6\)'),
        (lambda made: put(made[2], ImageOrientationPatient=[0, 1, 0, 0, 0, -1]), 'ImageOrientationPatient .*, but '),
        (lambda made: put(made[2], Rows=16), r'size \((16|32), 24\), but .* has \((16|32), 24\)'),
        (lambda made: made[2].__delattr__('ImagePositionPatient'), 'ImagePositionPatient None; expected it in every'),
        (lambda made: put(made[2], ImagePositionPatient=[0, 0, 1e300]), 'ImagePositionPatient .*; expected it in'),
        (lambda made: made[2].__delattr__('ImageOrientationPatient'), 'ImageOrientationPatient None; expected it'),
        (lambda made: made[2].__delattr__('PixelSpacing'), 'PixelSpacing None; expected it'),
        (each(lambda one: put(one, PixelSpacing=[0, 0.6])), 'expected two unit vectors at right angles and positive'),
        (each(lambda one: put(one, ImageOrientationPatient=[1, 0, 0, 1, 0, 0])), 'expected two unit vectors'),
        (lambda made: made[2].__delattr__('RescaleSlope'), 'rescale slope and intercept None; expected'),
        (lambda made: put(made[2], RescaleSlope=0), r'rescale slope and intercept \(0\.0, -24\.0\); expected'),
        (lambda made: put(made[2], RescaleSlope=1e30), 'rescale slope and intercept'),
        (lambda made: put(made[2], RescaleType='Z_EFF'), 'values in Z_EFF; expected HU'),
        (lambda made: put(made[2], SamplesPerPixel=3, PhotometricInterpretation='RGB'), '3 values a pixel, RGB; exp'),
        (lambda made: put(made[2], PhotometricInterpretation='PALETTE COLOR'), 'PALETTE COLOR; expected grey'),
        (lambda made: put(made[2], Rows=65535), '65535 rows, 24 columns; expected 1 to 4096'),
        (lambda made: made[2].__delattr__('PixelData'), 'its pixels cannot be read .*expected a sound file'),
        (lambda made: put(made[2], PixelData=made[2].PixelData[:1000]), 'its pixels cannot be read'),
        (lambda made: put(made[2], BitsStored=0), 'BitsAllocated 16, BitsStored 0, HighBit 15; expected the lowest'),
        (lambda made: put(made[2], BitsStored=12), 'BitsAllocated 16, BitsStored 12, HighBit 15; expected the lowest'),
        (lambda made: put(made[2], NumberOfFrames=5), 'positions of its frames are missing'),
    ],
)  # fmt: skip
def test_what_is_no_volume_is_refused_by_name(tmp_path, change, said):
    files = write_series(tmp_path, small_hu(), change)
    assert str(tmp_path) in check_refused(files, said)


@pytest.mark.parametrize(('degrees', 'fits'), [(0.5, True), (1.5, False), (-20, False)])
def test_a_tilted_gantry_is_refused_with_its_angle(tmp_path, degrees, fits):
    def tilt(one: Dataset) -> None:
        angle = np.radians(degrees)
        one.ImageOrientationPatient = [1, 0, 0, 0, round(np.cos(angle), 8), round(np.sin(angle), 8)]

    files = write_series(tmp_path, small_hu(), each(tilt))
    if fits:
        np.testing.assert_array_equal(array(read_series(files)), small_hu())
    else:
        check_refused(files, rf'the gantry was tilted by {abs(degrees):.1f} degrees')


def test_positions_rounded_to_a_tenth_do(tmp_path):
    def rounded(made: list[Dataset]) -> None:
        move(made, *[(0, 0, round(0.625 * k, 1)) for k in range(SLICES)])

    raster = read_series(write_series(tmp_path, small_hu(), rounded))
    assert raster.affine[2, 2] == pytest.approx(0.625, abs=0.01)


def test_hu_of_floats_that_are_no_numbers_are_refused(tmp_path):
    def parametric(one: Dataset) -> None:
        values = np.frombuffer(one.PixelData, '<i2').astype('<f4')
        values[5] = np.nan if one.InstanceNumber == 1 else 0
        del one.PixelData, one.BitsStored, one.HighBit
        one.BitsAllocated = 32
        one.FloatPixelData = values.tobytes()

    check_refused(write_series(tmp_path, small_hu(), each(parametric)), 'NaN or infinite HU')


def test_a_truncated_file_is_refused(tmp_path):
    files = write_series(tmp_path, small_hu())
    files[2].write_bytes(files[2].read_bytes()[:700])
    assert str(files[2]) in check_refused(files, 'expected')


@pytest.fixture
def series(tmp_path: Path) -> tuple[list[Dataset], Raster]:
    made = slices(small_hu())
    return made, read_series(save_all(tmp_path / 'ct', made))


def read_masks(raster: Raster, folder: Path, *segmentations: Dataset) -> Raster:
    for n, one in enumerate(segmentations):
        one.save_as(folder / f'seg{n}.dcm')
    return read_segmentation(tuple(folder.glob('seg*.dcm')), raster)


@pytest.mark.parametrize('omit', [True, False], ids=['empty frames left out', 'all frames'])
@pytest.mark.parametrize('kind', ['BINARY', 'FRACTIONAL', 'LABELMAP'])
def test_segments_become_labels_and_the_tumour_wins(tmp_path, series, kind, omit):
    made, raster = series
    labels = read_masks(raster, tmp_path, segmentation(made, BOTH, kind, omit))
    assert labels.notes == ()
    assert array(labels).dtype == np.uint8
    np.testing.assert_array_equal(array(labels), np.maximum(LIVER, 2 * TUMOUR))
    np.testing.assert_array_equal(labels.affine, raster.affine)


def test_segments_in_several_files_are_merged(tmp_path, series):
    made, raster = series
    parts = [segmentation(made, {name: mask}) for name, mask in reversed(BOTH.items())]
    np.testing.assert_array_equal(array(read_masks(raster, tmp_path, *parts)), np.maximum(LIVER, 2 * TUMOUR))


def test_two_segmentations_of_one_thing_are_united_and_that_is_said(tmp_path, series):
    made, raster = series
    labels = read_masks(raster, tmp_path, *(segmentation(made, {'Tumor': mask}) for mask in (TUMOUR, LIVER)))
    assert labels.notes[1].startswith('2 segmentations of the tumour are united (')
    np.testing.assert_array_equal(array(labels), 2 * np.maximum(LIVER, TUMOUR))


def test_a_segmentation_of_one_organ_alone_is_noted(tmp_path, series):
    made, raster = series
    labels = read_masks(raster, tmp_path, segmentation(made, {'Tumor': TUMOUR}))
    assert labels.notes == ('no segment of the liver',)
    np.testing.assert_array_equal(array(labels), 2 * TUMOUR)


def test_a_fraction_counts_from_one_half_on(tmp_path, series):
    made, raster = series
    fractions = {'Liver': LIVER * np.linspace(0.3, 0.7, COLUMNS)}
    labels = array(read_masks(raster, tmp_path, segmentation(made, fractions, 'FRACTIONAL')))
    np.testing.assert_array_equal(labels, fractions['Liver'] >= 0.5)


@pytest.mark.parametrize(
    ('name', 'label'),
    [
        ('Liver', 1), ('liver parenchyma', 1), ('Whole_Liver 1', 1), ('tumour', 2), ('Liver Tumor 3', 2), ('Lesion', 2),
        ('mass', 2), ('Hepatocellular carcinoma', 2), ('colorectal metastases', 2), ('Neoplasm, primary', 2),
    ],
)  # fmt: skip
def test_segments_are_known_by_their_names(tmp_path, series, name, label):
    made, raster = series
    one = segmentation(made, {'Spleen': LIVER})
    one.SegmentSequence[0].SegmentLabel = name
    np.testing.assert_array_equal(array(read_masks(raster, tmp_path, one)), label * LIVER)


def test_a_segment_with_a_number_for_a_name_is_known_by_its_code(tmp_path, series):
    made, raster = series
    one = segmentation(made, BOTH)
    for n, segment in enumerate(one.SegmentSequence):
        segment.SegmentLabel = f'Segment_{n}'
    np.testing.assert_array_equal(array(read_masks(raster, tmp_path, one)), np.maximum(LIVER, 2 * TUMOUR))


@pytest.mark.parametrize('name', ['Spleen', 'liver vessels', 'Liver cyst', 'kidney tumor'])
def test_other_segments_are_refused_by_name(tmp_path, series, name):
    made, raster = series
    one = segmentation(made, {'Spleen': LIVER})
    one.SegmentSequence[0].SegmentLabel = name
    with pytest.raises(UserError, match=rf"seg0\.dcm: segments '{name} / Spleen'; expected only the liver"):
        read_masks(raster, tmp_path, one)


def other_place(one: Dataset) -> None:
    for group in one.PerFrameFunctionalGroupsSequence:
        group.PlanePositionSequence[0].ImagePositionPatient[2] += 1.0


def other_spacing(one: Dataset) -> None:
    one.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = [0.8, 0.62]


def mirrored(one: Dataset) -> None:
    one.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient = [-1, 0, 0, 0, 1, 0]


def far_away(one: Dataset) -> None:
    for group in one.PerFrameFunctionalGroupsSequence:
        group.PlanePositionSequence[0].ImagePositionPatient[2] += 100 * SPACING[0]


@pytest.mark.parametrize('change', [other_place, other_spacing, mirrored, far_away])
def test_a_segmentation_on_another_grid_is_refused(tmp_path, series, change):
    made, raster = series
    one = segmentation(made, BOTH)
    change(one)
    with pytest.raises(UserError, match=r'seg0\.dcm: frame 1 \(24x32\) does not cover a slice of ct \(24x32\)'):
        read_masks(raster, tmp_path, one)


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        (lambda one: put(one, SegmentationType='SURFACE'), 'SEG SURFACE; expected a DICOM-SEG of type BINARY'),
        (lambda one: put(one, Modality='RTSTRUCT'), 'RTSTRUCT BINARY; expected a DICOM-SEG'),
        (lambda one: put(one, NumberOfFrames=3), 'positions of its frames are missing, or of another number'),
        (lambda one: one.SegmentSequence.pop(), r'is of segment 2, which is not described; expected 1'),
        (lambda one: put(one, SegmentSequence=[]), 'segments none; expected only the liver'),
        (lambda one: put(one, PixelData=one.PixelData[:100]), 'its pixels cannot be read'),
    ],
)
def test_a_damaged_segmentation_is_refused(tmp_path, series, change, said):
    made, raster = series
    one = segmentation(made, BOTH)
    change(one)
    with pytest.raises(UserError, match=said):
        array(read_masks(raster, tmp_path, one))
