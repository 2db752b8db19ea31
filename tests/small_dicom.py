"""Small CT series, enhanced CT and segmentations on disk, as scanners and workstations write them."""

import base64
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sr.codedict import codes
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian, JPEGLosslessSV1, generate_uid

with warnings.catch_warnings():
    warnings.simplefilter('ignore')
    import highdicom as hd

SLICES, ROWS, COLUMNS = 12, 32, 24
SPACING = (2.5, 0.8, 0.6)  # between slices, rows, columns
ORIGIN = (-100.0, -80.0, -300.0)
CODES = {
    'Liver': (codes.SCT.Organ, codes.SCT.Liver),
    'Tumor': (codes.SCT.MorphologicallyAbnormalStructure, codes.SCT.Neoplasm),
    'Spleen': (codes.SCT.Organ, codes.SCT.Spleen),
}
# 16x16 pixels of 1024 + 40 row - 7 column, 12 bits, as JPEG Lossless SV1 by GDCM; nothing in Python writes it.
JPEG_LOSSLESS = base64.b64decode(
    '/9j/wwALEAAQABABAREA/8QAFgABAQEAAAAAAAAAAAAAAAAAAwYP/9oACAEBAAEAAMD/AMAAAAAAAAACoAAAAAAAAAAqAAAAAAAA'
    'AAKgAAAAAAAAACoAAAAAAAAAAqAAAAAAAAAAKgAAAAAAAAACoAAAAAAAAAAqAAAAAAAAAAKgAAAAAAAAACoAAAAAAAAAAqAAAAAA'
    'AAAAKgAAAAAAAAACoAAAAAAAAAAqAAAAAAAAAAKgAAAAAAAAAD//2Q=='
)


def small_hu(seed: int = 0) -> np.ndarray:
    """[slice, row, column]"""
    return np.random.default_rng(seed).integers(-1000, 1500, (SLICES, ROWS, COLUMNS)).astype(np.int16)


def slices(hu: np.ndarray, patient: str = 'P1', **fields: object) -> list[Dataset]:
    """One data set per slice, feet first; `fields` replace elements of all."""
    series, study, frame = generate_uid(), generate_uid(), generate_uid()
    made = []
    for k, plane in enumerate(hu):
        one = Dataset()
        one.file_meta = FileMetaDataset()
        one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        one.SpecificCharacterSet = 'ISO_IR 100'
        one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = CTImageStorage
        one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        one.ImageType = ['ORIGINAL', 'PRIMARY', 'AXIAL']
        one.Modality, one.PatientID, one.PatientName, one.BodyPartExamined = 'CT', patient, 'A^B', 'LIVER'
        one.PatientBirthDate = one.PatientSex = one.AccessionNumber = one.ReferringPhysicianName = one.StudyID = ''
        one.StudyDate, one.StudyTime, one.Manufacturer = '20200101', '120000', 'test'
        one.StudyInstanceUID, one.SeriesInstanceUID, one.FrameOfReferenceUID = study, series, frame
        one.PositionReferenceIndicator = ''
        one.SeriesNumber, one.AcquisitionNumber = 4, 1
        one.InstanceNumber = (7 * k) % len(hu) + 1  # in no order that means anything
        one.ImagePositionPatient = [*ORIGIN[:2], ORIGIN[2] + SPACING[0] * k]
        one.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        one.PixelSpacing, one.SliceThickness = list(SPACING[1:]), SPACING[0]
        one.Rows, one.Columns, one.SamplesPerPixel, one.PhotometricInterpretation = *plane.shape, 1, 'MONOCHROME2'
        one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 16, 15, 1
        one.RescaleSlope, one.RescaleIntercept, one.RescaleType = 1, -24, 'HU'
        one.PixelData = (plane + 24).astype('<i2').tobytes()
        one['PixelData'].VR = 'OW'
        for name, value in fields.items():
            setattr(one, name, value)
        made.append(one)
    return made


def save_all(folder: Path, datasets: Sequence[Dataset]) -> tuple[Path, ...]:
    """Files whose names say nothing of the order of slices."""
    folder.mkdir(parents=True, exist_ok=True)
    names = np.random.default_rng(3).permutation(len(datasets))
    paths = [folder / f'IM{name:04d}' for name in names]
    for path, one in zip(paths, datasets, strict=True):
        one.save_as(path, enforce_file_format=True)
    return tuple(paths)


def write_series(folder: Path, hu: np.ndarray, change: Callable[[list[Dataset]], object] = len) -> tuple[Path, ...]:
    """A series in `folder`, `change` having been at its data sets."""
    made = slices(hu)
    change(made)
    return save_all(folder, made)


def jpeg_lossless(one: Dataset) -> None:
    """Make a slice one of 16x16 pixels of 40 row - 7 column HU, compressed as JPEG Lossless."""
    one.BitsStored, one.HighBit, one.PixelRepresentation, one.RescaleIntercept = 12, 11, 0, -1024
    one.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    one.PixelData = encapsulate([JPEG_LOSSLESS])
    one['PixelData'].is_undefined_length = True


def enhanced(hu: np.ndarray) -> Dataset:
    """The same series as one file of many frames, head first."""
    source = slices(hu)
    one = source[0]
    one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    one.NumberOfFrames = len(hu)
    shared, one.PerFrameFunctionalGroupsSequence = Dataset(), []
    measures, orientation, rescale = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, orientation.ImageOrientationPatient = one.PixelSpacing, one.ImageOrientationPatient
    rescale.RescaleSlope, rescale.RescaleIntercept, rescale.RescaleType = 1, -24, 'HU'
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    shared.PixelValueTransformationSequence = [rescale]
    one.SharedFunctionalGroupsSequence = [shared]
    for plane in reversed(source):
        group, position = Dataset(), Dataset()
        position.ImagePositionPatient = plane.ImagePositionPatient
        group.PlanePositionSequence = [position]
        one.PerFrameFunctionalGroupsSequence.append(group)
    one.PixelData = b''.join(plane.PixelData for plane in reversed(source))
    for name in ('ImagePositionPatient', 'ImageOrientationPatient', 'PixelSpacing', 'RescaleSlope', 'RescaleIntercept'):
        delattr(one, name)
    return one


def segmentation(
    source: list[Dataset], masks: dict[str, np.ndarray], kind: str = 'BINARY', omit_empty_frames: bool = True
) -> Dataset:
    """A DICOM-SEG of `masks` (name -> [slice, row, column], bool or a fraction) over the slices of a series."""
    described = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=name,
            segmented_property_category=CODES.get(name, CODES['Tumor'])[0],
            segmented_property_type=CODES.get(name, CODES['Tumor'])[1],
            algorithm_type='MANUAL',
        )
        for number, name in enumerate(masks, start=1)
    ]
    pixels = np.stack(list(masks.values()), axis=-1)
    if kind == 'LABELMAP':
        pixels = np.max(pixels * np.arange(1, len(masks) + 1, dtype=np.uint8), axis=-1)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return hd.seg.Segmentation(
            source_images=source,
            pixel_array=pixels.astype(float if kind == 'FRACTIONAL' else np.uint8),
            segmentation_type=kind,
            segment_descriptions=described,
            series_instance_uid=generate_uid(),
            series_number=9,
            sop_instance_uid=generate_uid(),
            instance_number=1,
            manufacturer='test',
            manufacturer_model_name='test',
            software_versions='1',
            device_serial_number='1',
            omit_empty_frames=omit_empty_frames,
        )
