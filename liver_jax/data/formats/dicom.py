"""CT series and their segmentations in DICOM, plane by plane.

HU are stored value x slope + intercept, of each slice its own. The two photometric interpretations of grey differ in
how they are shown, not in HU. Padding stays as low as it is; where it would be higher than metal, it becomes air.
"""

import heapq
import itertools
import re
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

import numpy as np

from liver_jax.data.formats.dicom_files import check_decodable, read_header, read_stored
from liver_jax.data.formats.dicom_grid import affine_of, check_frames, check_stack, heights, plane_in
from liver_jax.data.formats.dicom_header import Frame, Header
from liver_jax.data.formats.raster import Raster
from liver_jax.errors import UserError

LARGEST_SIDE = 4096  # pixels; the largest CT matrix sold is 2048, and a header may claim 65535
LARGEST_SLOPE, LARGEST_HU = 1e3, 1e6
AIR, HIGHEST_PADDING = -1000, 30_000
SAME_PLACE = 0.01  # mm
# A segment with other words, such as the vessels of the liver, is neither.
TUMOUR = {'tumor', 'tumors', 'tumour', 'tumours', 'lesion', 'lesions', 'mass', 'masses', 'neoplasm', 'neoplasms', 'hcc'}
TUMOUR |= {'metastasis', 'metastases', 'cancer', 'carcinoma'}
LIVER = {'liver', 'hepatic'}
FILLERS = {'segment', 'segmentation', 'mask', 'label', 'organ', 'parenchyma', 'whole', 'and', 'of', 'the', 'primary'}
FILLERS |= {'secondary', 'malignant', 'hepatocellular', 'colorectal'}


def read_series(files: Sequence[Path]) -> Raster:
    """A CT series in HU: int16 where slopes and intercepts are whole numbers, else float32.

    Raises:
        UserError: a damaged file, or a series that is no volume; the message says what is wrong.
    """
    headers = {path: read_header(path) for path in sorted(files)}
    first = next(iter(headers.values()))
    where = first.path.parent if len(headers) > 1 else first.path
    for header in headers.values():
        _check_pixels(header)
        check_frames(header, first)
        for frame in header.frames:
            _check_rescale(frame)
    frames, notes = _without_copies(headers, [frame for header in headers.values() for frame in header.frames])
    check_stack(where, frames)
    _check_one_acquisition(where, [headers[frame.path].acquisition for frame in frames])
    whole = all(_is_whole(headers[frame.path], frame) for frame in frames)

    def planes() -> Generator[np.ndarray, None, None]:
        for path, group in itertools.groupby(frames, key=lambda frame: frame.path):
            for hu in _hu(headers[path], list(group)):
                # Clipped, for what 16 bits with an intercept can hold beyond int16 is no HU.
                yield (np.clip(hu, -32768, 32767).astype(np.int16) if whole else hu.astype(np.float32)).T

    return Raster(where, (first.columns, first.rows, len(frames)), affine_of(frames), planes, notes)


def read_segmentation(files: Sequence[Path], series: Raster) -> Raster:
    """Labels 0, 1 (liver) and 2 (tumour) on the grid of `series`; where segments overlap, tumour wins.

    Raises:
        UserError: a damaged file, segments that are neither liver nor tumour, another grid than that of the series.
    """
    headers = [read_header(path) for path in sorted(files)]
    meanings = [_meanings(header) for header in headers]
    for header in headers:
        check_frames(header, header)
    # Per file its frames as (plane, number), from the first plane to the last.
    placed = [sorted((_plane(header, frame, series), frame.index) for frame in header.frames) for header in headers]
    found = {value for meaning in meanings for value in meaning.values()}
    notes = [f'no segment of the {name}' for value, name in ((1, 'liver'), (2, 'tumour')) if value not in found]
    for value, name in ((1, 'liver'), (2, 'tumour')):
        sources = [
            header.path.name for header, meaning in zip(headers, meanings, strict=True) if value in meaning.values()
        ]
        if len(sources) > 1:
            notes.append(
                f'{len(sources)} segmentations of the {name} are united ({", ".join(sources)}); '
                'if they are of several readers, take the others out'
            )
    columns, rows, depth = series.shape

    def planes() -> Generator[np.ndarray, None, None]:
        parts = [
            ((plane, labels) for (plane, _), labels in zip(order, _labels(header, order, meaning), strict=True))
            for header, order, meaning in zip(headers, placed, meanings, strict=True)
        ]
        covered = itertools.groupby(heapq.merge(*parts, key=lambda part: part[0]), key=lambda part: part[0])
        plane, group = next(covered, (depth, iter(())))
        for k in range(depth):
            merged = np.zeros((rows, columns), np.uint8)
            if k == plane:
                for _, labels in group:
                    np.maximum(merged, labels, out=merged)
                plane, group = next(covered, (depth, iter(())))
            yield merged.T

    return Raster(headers[0].path, series.shape, series.affine, planes, tuple(notes))


def _check_pixels(header: Header) -> None:
    """What one file must be like, whatever the others are."""
    if not (1 <= header.rows <= LARGEST_SIDE and 1 <= header.columns <= LARGEST_SIDE):
        raise UserError(
            f'{header.path}: {header.rows} rows, {header.columns} columns; '
            f'expected 1 to {LARGEST_SIDE} of each, export the file again'
        )
    if header.samples != 1 or header.colour not in ('MONOCHROME1', 'MONOCHROME2'):
        raise UserError(
            f'{header.path}: {header.samples} values a pixel, {header.colour or "no photometric interpretation"}; '
            'expected grey (MONOCHROME2), take pictures and reports out of the series'
        )
    allocated, used, highest = header.bits
    if not 1 <= used == highest + 1 <= allocated:
        raise UserError(
            f'{header.path}: BitsAllocated {allocated}, BitsStored {used}, HighBit {highest}; expected the lowest bits '
            'to be the value, export the file again'
        )
    check_decodable(header)


def _check_rescale(frame: Frame) -> None:
    slope, intercept = frame.rescale or (0.0, 0.0)
    if not 0 < abs(slope) <= LARGEST_SLOPE or abs(intercept) > LARGEST_HU:
        raise UserError(
            f'{frame.path}: rescale slope and intercept {frame.rescale}; expected those of a CT, '
            'without which there are no HU: export the series again'
        )
    if frame.unit.upper() not in ('', 'HU', 'US'):
        raise UserError(f'{frame.path}: values in {frame.unit}; expected HU, choose the series of plain CT')


def _without_copies(headers: dict[Path, Header], frames: list[Frame]) -> tuple[list[Frame], tuple[str, ...]]:
    """The frames in order of height. Of several in one place one stays if they are the same, else all are refused."""
    kept: list[Frame] = []
    places = heights(frames)
    reached = -np.inf
    for n in np.argsort(places, kind='stable'):
        if places[n] - reached > SAME_PLACE:
            kept.append(frames[n])
            reached = places[n]
        else:
            _check_copies(headers, kept[-1], frames[n])
    copies = len(frames) - len(kept)
    return kept, (f'{copies} slices were there twice, pixel by pixel, and count once',) if copies else ()


def _check_copies(headers: dict[Path, Header], one: Frame, other: Frame) -> None:
    picture, another = (next(_hu(headers[frame.path], [frame])) for frame in (one, other))
    if np.array_equal(picture, another) and one.position == other.position:
        return
    facts, others = headers[one.path].acquisition, headers[other.path].acquisition
    name = next((name for name in facts if facts[name] != others.get(name)), 'PixelData')
    tell = f': {facts[name]} and {others.get(name)}' if name in facts else ''
    raise UserError(
        f'{other.path}: in the same place as {one.path.name}, but not the same picture ({name} differs{tell}); '
        'expected one acquisition in a series, export them as series of their own'
    )


def _check_one_acquisition(where: Path, facts: list[dict[str, str]]) -> None:
    """From the feet up an acquisition may follow another one, as a scanner moves on, but not take turns with it."""
    for name in ('AcquisitionNumber', 'ConvolutionKernel', 'KVP'):
        values = [each.get(name, '') for each in facts]
        turns = sum(one != other for one, other in itertools.pairwise(values))
        if turns > max(len(set(values)) - 1, 0):
            raise UserError(
                f'{where}: slices of {name} {" and ".join(sorted(set(values)))} take turns; '
                'expected one acquisition in a series, export them as series of their own'
            )


def _is_whole(header: Header, frame: Frame) -> bool:
    return header.bits[0] <= 16 and all(value.is_integer() for value in frame.rescale or ())


def _hu(header: Header, frames: list[Frame]) -> Iterator[np.ndarray]:
    """Planes [row, column] in HU of some frames of a file."""
    for frame, stored in zip(frames, read_stored(header, [frame.index for frame in frames]), strict=True):
        slope, intercept = frame.rescale or (1.0, 0.0)
        if stored.dtype.kind == 'f' and not (abs(stored) <= LARGEST_HU).all():
            raise UserError(f'{frame.path}: NaN or infinite HU; expected finite values, export the file again')
        hu = stored * np.float64(slope) + intercept
        if header.padding is not None and header.padding * slope + intercept > HIGHEST_PADDING:
            hu[stored == header.padding] = AIR
        yield hu


def _meanings(header: Header) -> dict[int, int]:
    """Number of a segment -> label: by its name, or else by what its code means."""
    if header.modality != 'SEG' or header.segmentation_type not in ('BINARY', 'FRACTIONAL', 'LABELMAP'):
        raise UserError(
            f'{header.path}: {header.modality or "no modality"} {header.segmentation_type}; expected a DICOM-SEG of '
            'type BINARY, FRACTIONAL or LABELMAP'
        )
    meanings, strange = {}, []
    for number, names in header.segments.items():
        values = [value for value in map(_label_of, names) if value is not None]
        meanings[number] = values[0] if values else 0
        if not values:
            strange.append(' / '.join(filter(None, names)) or f'number {number}')
    if strange or not meanings:
        raise UserError(
            f'{header.path}: segments {", ".join(map(repr, strange)) or "none"}; expected only the liver and its '
            'tumours (lesions, masses, metastases), take the others out or rename them'
        )
    return meanings


def _label_of(name: str) -> int | None:
    words = set(re.findall('[a-z]+', name.lower()))
    if words == {'background'}:
        return 0
    if words & (TUMOUR | LIVER) and words <= TUMOUR | LIVER | FILLERS:
        return 2 if words & TUMOUR else 1
    return None


def _plane(header: Header, frame: Frame, series: Raster) -> int:
    """The plane of the series that a frame of a segmentation covers."""
    plane = plane_in(series, frame) if (header.columns, header.rows) == series.shape[:2] else None
    if plane is None:
        raise UserError(
            f'{header.path}: frame {frame.index + 1} ({header.columns}x{header.rows}) does not cover a slice of '
            f'{series.path.name} ({series.shape[0]}x{series.shape[1]}); expected the grid of the series, export the '
            'segmentation on it'
        )
    return plane


def _labels(header: Header, order: list[tuple[int, int]], meaning: dict[int, int]) -> Iterator[np.ndarray]:
    """Labels [row, column] of the frames of a file in this order of (plane, number)."""
    label_map = header.segmentation_type == 'LABELMAP'
    numbers = [frame.segment for frame in header.frames]
    for (_, index), stored in zip(order, read_stored(header, [index for _, index in order]), strict=True):
        labels = np.zeros(stored.shape, np.uint8)
        for number in np.unique(stored[stored != 0]) if label_map else [numbers[index]]:
            if number not in meaning:
                raise UserError(
                    f'{header.path}: frame {index + 1} is of segment {number}, which is not described; expected '
                    f'{", ".join(map(str, meaning))}, export the segmentation again'
                )
            # A fraction counts from one half on; full_value is 1 in the other types.
            where = stored == number if label_map else 2 * stored.astype(int) >= header.full_value
            labels[where] = np.maximum(labels[where], meaning[number])
        yield labels
