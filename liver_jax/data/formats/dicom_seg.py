"""Writing DICOM-SEG, so that a workstation lays a segmentation over its series; the one importer of highdicom."""

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from liver_jax import __version__
from liver_jax.data.formats.dicom_files import one_line, read_dataset, read_header
from liver_jax.data.formats.dicom_grid import plane_in
from liver_jax.data.formats.raster import Raster
from liver_jax.errors import UserError

# Label -> name of its segment, category and type in SNOMED CT, as DICOM lists them (CID 7150, 7151, 7159).
_SEGMENTS = {
    1: ('Liver', ('91723000', 'Anatomical Structure'), ('10200004', 'Liver')),
    2: ('Tumor', ('49755003', 'Morphologically Abnormal Structure'), ('108369006', 'Neoplasm')),
}
TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_SERIES_NUMBER = 900  # beyond those that scanners give
# What a SEG takes over from its series and may have empty, but not leave out.
_MAY_BE_EMPTY = (
    'PatientID', 'PatientName', 'PatientBirthDate', 'PatientSex', 'StudyID', 'StudyDate', 'StudyTime',
    'AccessionNumber', 'ReferringPhysicianName',
)  # fmt: skip


def write_segmentation(
    path: Path, files: Sequence[Path], series: Raster, labels: np.ndarray, meanings: Sequence[int], algorithm: str
) -> None:
    """Write `labels` [i, j, k] on the grid of `series`, which was read from `files`, as one BINARY SEG. Atomic.

    `meanings` are the labels that were looked for, 1 (liver) and 2 (tumour): each becomes a segment, an empty one too.
    `algorithm` names the network. Every slice has its frame, so that readers without geometry get the whole volume.

    Raises:
        UserError: headers that no segmentation can be made for.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            made = _segmentation(_sources(files, series), series, labels, meanings, algorithm)
            partial = path.with_name(f'.{path.name}.{os.getpid()}')
            try:
                made.save_as(partial, enforce_file_format=True)
                os.replace(partial, path)
            finally:
                partial.unlink(missing_ok=True)
    except (UserError, OSError):
        raise
    except Exception as error:  # headers can lack or twist anything: no list of errors would be complete
        raise UserError(
            f'{series.path}: no DICOM-SEG can be made for this series ({one_line(str(error))}); its NIfTI is written, '
            'repair the headers or convert that'
        ) from error


def _sources(files: Sequence[Path], series: Raster) -> dict[Path, list[int]]:
    """The files that a SEG refers to, and the plane of the series that each of their frames is; of copies the first."""
    placed: dict[Path, list[int]] = {}
    seen: set[int | None] = {None}
    for path in sorted(files):
        planes = [plane_in(series, frame) for frame in read_header(path).frames]
        if not seen.issuperset(planes):
            seen.update(planes)
            placed[path] = [plane for plane in planes if plane is not None]
    return dict(sorted(placed.items(), key=lambda item: item[1]))


def _completed(path: Path) -> Any:
    dataset = read_dataset(path)
    for name in _MAY_BE_EMPTY:
        if name not in dataset:
            setattr(dataset, name, '')
    if dataset.PatientSex not in ('M', 'F', 'O', ''):
        dataset.PatientSex = 'O'
    return dataset


def _segmentation(
    placed: dict[Path, list[int]], series: Raster, labels: np.ndarray, meanings: Sequence[int], algorithm: str
) -> Any:
    import highdicom as hd  # half a second, and few runs write DICOM

    def code(value: tuple[str, str], scheme: str = 'SCT') -> Any:
        return hd.sr.CodedConcept(value[0], scheme, value[1])

    family = code(('123110', 'Artificial Intelligence'), 'DCM')
    described = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=_SEGMENTS[label][0],
            segmented_property_category=code(_SEGMENTS[label][1]),
            segmented_property_type=code(_SEGMENTS[label][2]),
            algorithm_type='AUTOMATIC',
            algorithm_identification=hd.AlgorithmIdentificationSequence(algorithm, family, __version__),
            anatomic_regions=[code(_SEGMENTS[1][2])] if label == 2 else None,
        )
        for number, label in enumerate(meanings, start=1)
    ]
    numbers = np.zeros(labels.shape[::-1], np.uint8)  # slice, row, column
    for number, label in enumerate(meanings, start=1):
        numbers[(labels == label).transpose(2, 1, 0)] = number
    sources = [_completed(path) for path in placed]
    # A SEG takes frames from one file of many; of several it gets the volume instead, which says where it lies.
    several = len(placed) > 1 and any(len(planes) > 1 for planes in placed.values())
    pixels: Any = numbers[[plane for planes in placed.values() for plane in planes]]
    if several:
        pixels = hd.Volume(
            numbers,
            TO_LPS @ series.affine[:, [2, 1, 0, 3]],
            coordinate_system='PATIENT',
            frame_of_reference_uid=sources[0].FrameOfReferenceUID,
        )
    made = hd.seg.Segmentation(
        source_images=sources[:1] if several else sources,
        further_source_images=sources[1:] if several else None,
        pixel_array=pixels,
        segmentation_type='BINARY',
        segment_descriptions=described,
        series_instance_uid=hd.UID(),
        series_number=_SERIES_NUMBER,
        series_description=f'liver_jax {algorithm}',
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer='liver_jax',
        manufacturer_model_name=algorithm,
        software_versions=__version__,
        device_serial_number='none',
        content_label='LIVER_JAX',
        omit_empty_frames=False,
    )
    if several:  # of a volume the thickness is not known; the standard wants one
        (measures,) = made.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
        measures.SliceThickness = measures.SpacingBetweenSlices
    return made
