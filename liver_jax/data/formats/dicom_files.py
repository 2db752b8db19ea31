"""Single DICOM files as plain data; the one importer of pydicom, whose objects stay in here.

(But for `read_dataset`, which hands one to the writer of segmentations.)

A file of one slice and one of many frames (enhanced CT, segmentation) give the same `Header` with its `Frame`s.
"""

import contextlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from liver_jax.data.formats.dicom_header import Frame, Header
from liver_jax.errors import UserError

logging.getLogger('pydicom').setLevel(logging.CRITICAL)  # what matters is said in our errors
# Decoders that neither crash nor hang on damaged data (GDCM, which pydicom would try first, ends the process).
DECODERS = {
    '1.2.840.10008.1.2': '',
    '1.2.840.10008.1.2.1': '',
    '1.2.840.10008.1.2.2': '',
    '1.2.840.10008.1.2.4.50': 'pylibjpeg',
    '1.2.840.10008.1.2.4.51': 'pylibjpeg',
    '1.2.840.10008.1.2.4.57': 'pylibjpeg',
    '1.2.840.10008.1.2.4.70': 'pylibjpeg',
    '1.2.840.10008.1.2.4.80': 'pyjpegls',
    '1.2.840.10008.1.2.4.81': 'pyjpegls',
    '1.2.840.10008.1.2.4.90': 'pylibjpeg',
    '1.2.840.10008.1.2.4.91': 'pylibjpeg',
    '1.2.840.10008.1.2.5': 'pydicom',
}
_RLE, _DEFLATED = '1.2.840.10008.1.2.5', '1.2.840.10008.1.2.1.99'
# What tells two acquisitions in one series apart.
_ACQUISITION = ('AcquisitionNumber', 'AcquisitionTime', 'ContentTime', 'ConvolutionKernel', 'KVP', 'InstanceNumber')
_PIXELS = ['PixelData', 'FloatPixelData', 'DoubleFloatPixelData']
_TAGS = [
    *('SOPInstanceUID', 'Modality', 'ImageType', 'PatientID', 'StudyInstanceUID', 'SeriesInstanceUID', 'SeriesNumber'),
    *('FrameOfReferenceUID', 'ImagePositionPatient', 'ImageOrientationPatient', 'PixelSpacing', 'NumberOfFrames'),
    *('SamplesPerPixel', 'PhotometricInterpretation', 'Rows', 'Columns', 'BitsAllocated', 'BitsStored', 'HighBit'),
    *('PixelRepresentation', 'PixelPaddingValue', 'RescaleSlope', 'RescaleIntercept', 'RescaleType'),
    *('SharedFunctionalGroupsSequence', 'PerFrameFunctionalGroupsSequence', 'ReferencedSeriesSequence'),
    *('SegmentSequence', 'SegmentationType', 'MaximumFractionalValue', *_ACQUISITION),
]


def is_dicom(path: Path) -> bool:
    """Whether a file starts as DICOM does, with the preamble or, as old archives have it, without."""
    try:
        with open(path, 'rb') as file:
            head = file.read(1024)
    except OSError as error:
        raise UserError(f'{path}: cannot be read ({error.strerror}); expected a file that you may read') from error
    return head[128:132] == b'DICM' or (head[:2] == b'\x08\0' and head[2:4] in (b'\0\0', b'\x05\0', b'\x08\0'))


def read_header(path: Path) -> Header:
    """Everything but the pixels."""
    with _reading(path, 'its DICOM header'):
        import pydicom  # a third of a second, and few runs read DICOM

        with open(path, 'rb') as file:
            # Would be unpacked whole, to whatever size, before a byte can be looked at.
            if _DEFLATED.encode() in file.read(1024):
                raise _refusal(path, _DEFLATED)
        dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_TAGS, force=True)
        return _header(path, dataset)


def read_dataset(path: Path) -> Any:
    """Everything before the pixels as pydicom has it."""
    with _reading(path, 'its DICOM header'):
        import pydicom

        return pydicom.dcmread(path, stop_before_pixels=True, force=True)


def check_decodable(header: Header) -> None:
    """Refuse, by the name of its compression, a file whose pixels cannot be decoded."""
    plugin = DECODERS.get(header.syntax)
    if plugin is None:
        raise _refusal(header.path, header.syntax)
    with _reading(header.path, 'its compression'):
        import pydicom

        decoder = pydicom.pixels.get_decoder(_uid(header.syntax))
        if plugin and plugin not in decoder.available_plugins:
            raise _refusal(header.path, header.syntax)


def read_stored(header: Header, indices: Sequence[int]) -> Iterator[np.ndarray]:
    """The stored values [row, column] of these frames of a file, one after the other."""
    check_decodable(header)
    frames = _decoded(header, indices)
    for _ in indices:
        with _reading(header.path, 'its pixels'):
            stored = next(frames)
            if stored.shape != (header.rows, header.columns):
                raise ValueError(f'{stored.shape} pixels where the header says {(header.rows, header.columns)}')
        yield stored


def _decoded(header: Header, indices: Sequence[int]) -> Iterator[np.ndarray]:
    import pydicom

    plugin = DECODERS[header.syntax]
    if not plugin:
        _check_length(header)
        # Files without preamble do not name their syntax.
        syntax = _uid(header.syntax)
        yield from pydicom.pixels.iter_pixels(header.path, indices=indices, raw=True, transfer_syntax_uid=syntax)
        return
    dataset = pydicom.dcmread(header.path, force=True)
    if header.syntax != _RLE:
        encoded = pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=len(header.frames))
        for codestream in encoded:
            _check_codestream(codestream, header)
    yield from pydicom.pixels.iter_pixels(dataset, indices=indices, raw=True, decoding_plugin=plugin)


def _check_length(header: Header) -> None:
    """Where pixels are packed to bits, pydicom would read those that are not there as zeros."""
    import pydicom

    dataset = pydicom.dcmread(header.path, force=True, specific_tags=_PIXELS, defer_size=64)
    elements: list[Any] = [dataset.get_item(name, keep_deferred=True) for name in _PIXELS if name in dataset]
    expected = len(header.frames) * header.rows * header.columns * header.bits[0] / 8
    there = [element for element in elements if element.value_tell + element.length <= header.path.stat().st_size]
    if not any(element.length >= expected for element in there):
        size = header.path.stat().st_size
        here = max((min(each.length, size - each.value_tell) for each in elements), default=0)
        raise ValueError(f'{max(here, 0):,} bytes of pixels where {expected:,.0f} are needed')


def _check_codestream(codestream: bytes, header: Header) -> None:
    """Decoders make room for whatever size the data claim, and that of JPEG-LS waits for ever for a lost end."""
    size: tuple[int, ...]
    if codestream[:4] == b'\xff\x4f\xff\x51':  # JPEG 2000, which may end anywhere
        right, bottom, left, top = (int(value) for value in np.frombuffer(codestream[8:24], '>u4'))
        size = bottom - top, right - left
    elif codestream.rstrip(b'\0\xff')[-2:] != b'\xff\xd9':  # padded with either
        raise ValueError('compressed data without an end')
    else:
        size, at = (0, 0), 2  # after the mark of the start
        while at + 9 <= len(codestream):
            marker = codestream[at + 1]
            if marker in (0xC0, 0xC1, 0xC2, 0xC3, 0xF7):
                size = tuple(np.frombuffer(codestream[at + 5 : at + 9], '>u2').tolist())
                break
            at += 1 if marker == 0xFF else 2 + int.from_bytes(codestream[at + 2 : at + 4], 'big')
    if size != (header.rows, header.columns):
        raise ValueError(f'compressed {size} where the header says {(header.rows, header.columns)}')


def _header(path: Path, dataset: Any) -> Header:
    meta = dataset.file_meta.get('TransferSyntaxUID') if hasattr(dataset, 'file_meta') else None
    implicit, little = dataset.original_encoding
    plain = '1.2.840.10008.1.2' if implicit else '1.2.840.10008.1.2.1' if little else '1.2.840.10008.1.2.2'
    allocated = _whole(dataset, 'BitsAllocated', 0)
    used = _whole(dataset, 'BitsStored', allocated)
    highest = _whole(dataset, 'HighBit', used - 1)
    padding = dataset.get('PixelPaddingValue')
    return Header(
        path=path,
        syntax=str(meta or plain),
        instance=_text(dataset, 'SOPInstanceUID'),
        modality=_text(dataset, 'Modality').upper(),
        image_type=tuple(map(str, _items(dataset.get('ImageType')))),
        patient=_text(dataset, 'PatientID'),
        study=_text(dataset, 'StudyInstanceUID'),
        series=_text(dataset, 'SeriesInstanceUID'),
        series_number=_text(dataset, 'SeriesNumber'),
        frame_of_reference=_text(dataset, 'FrameOfReferenceUID'),
        references=tuple(_text(item, 'SeriesInstanceUID') for item in dataset.get('ReferencedSeriesSequence') or ()),
        segmentation_type=_text(dataset, 'SegmentationType'),
        segments=dict(_segment(item) for item in dataset.get('SegmentSequence') or ()),
        full_value=max(1, _whole(dataset, 'MaximumFractionalValue', 1)),
        colour=_text(dataset, 'PhotometricInterpretation'),
        samples=_whole(dataset, 'SamplesPerPixel', 1),
        rows=_whole(dataset, 'Rows', 0),
        columns=_whole(dataset, 'Columns', 0),
        bits=(allocated, used, highest),
        padding=padding if isinstance(padding, int) else None,
        acquisition={name: str(dataset[name].value) for name in _ACQUISITION if name in dataset},
        frames=_frames(path, dataset),
    )


def _frames(path: Path, dataset: Any) -> tuple[Frame, ...]:
    """Empty where the header does not say of each frame where it lies, as in doses and ultrasound."""
    per_frame = dataset.get('PerFrameFunctionalGroupsSequence') or ()
    count = _whole(dataset, 'NumberOfFrames', 1)
    if count == 1 and not per_frame:
        return (_frame(path, 0, dataset, ()),)
    if len(per_frame) != count:
        return ()
    shared = tuple(dataset.get('SharedFunctionalGroupsSequence') or ())[:1]
    return tuple(_frame(path, index, dataset, (group, *shared)) for index, group in enumerate(per_frame))


def _frame(path: Path, index: int, dataset: Any, groups: tuple[Any, ...]) -> Frame:
    """What holds for one frame: in its own group, in the one shared by all, or, for a slice in a file, at the top."""

    def item(sequence: str) -> Any:
        return next((group[sequence].value[0] for group in groups if group.get(sequence)), {} if groups else dataset)

    rescale = item('PixelValueTransformationSequence')
    slope_intercept = _numbers(rescale, 'RescaleSlope', 1), _numbers(rescale, 'RescaleIntercept', 1)
    return Frame(
        path=path,
        index=index,
        position=_numbers(item('PlanePositionSequence'), 'ImagePositionPatient', 3),
        orientation=_numbers(item('PlaneOrientationSequence'), 'ImageOrientationPatient', 6),
        spacing=_numbers(item('PixelMeasuresSequence'), 'PixelSpacing', 2),
        rescale=None if None in slope_intercept else tuple(value for pair in slope_intercept for value in pair or ()),
        unit=_text(rescale, 'RescaleType'),
        segment=_whole(item('SegmentIdentificationSequence'), 'ReferencedSegmentNumber', 0) or None,
    )


def _segment(item: Any) -> tuple[int, tuple[str, ...]]:
    kinds = item.get('SegmentedPropertyTypeCodeSequence') or ()
    return int(item.SegmentNumber), (_text(item, 'SegmentLabel'), *(_text(kind, 'CodeMeaning') for kind in kinds))


def _items(value: Any) -> tuple[Any, ...]:
    return () if value is None else (value,) if isinstance(value, str | int | float) else tuple(value)


def _text(item: Any, name: str) -> str:
    return one_line(str(item.get(name) or '')).strip()


def _whole(item: Any, name: str, otherwise: int) -> int:
    value = item.get(name)
    return otherwise if value is None else int(value)


def _numbers(item: Any, name: str, count: int) -> tuple[float, ...] | None:
    values = tuple(float(value) for value in _items(item.get(name)))
    return values if len(values) == count and np.isfinite(values).all() else None


def _uid(text: str) -> Any:
    import pydicom

    return pydicom.uid.UID(text, validation_mode=pydicom.config.IGNORE)


def _refusal(path: Path, syntax: str) -> UserError:
    return UserError(
        f'{path}: compressed as {one_line(_uid(syntax).name)}, which cannot be decoded here; expected plain pixels, '
        'unpack it with gdcmconv --raw or dcmdjpeg; for JPEG alone, pip install pylibjpeg-libjpeg does as well'
    )


def one_line(text: str) -> str:
    """What a file says, fit for a message: no control characters, not long."""
    return ''.join(letter if letter.isprintable() else '?' for letter in text)[:120]


@contextlib.contextmanager
def _reading(path: Path, what: str) -> Iterator[None]:
    """Whatever pydicom stumbles over in a damaged file becomes one line with its name; its warnings stay in here."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    except UserError:
        raise
    except Exception as error:  # damage can break a parser anywhere: no list of errors would be complete
        said = one_line(str(error)) or type(error).__name__
        raise UserError(f'{path}: {what} cannot be read ({said}); expected a sound file, export it again') from error
