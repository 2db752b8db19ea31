"""Sorting DICOM files into CT series and the segmentations that belong to them."""

import dataclasses
import logging
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

from liver_jax.data.formats.dicom_files import is_dicom, read_header
from liver_jax.data.formats.dicom_header import Header
from liver_jax.errors import UserError

log = logging.getLogger(__name__)
FEWEST_SLICES = 3
# Not opened to look for DICOM: data sets of pictures have hundreds of thousands of files.
_OTHER = '.png .jpg .jpeg .nii .gz .hdr .csv .json .txt .md .html .xml .pdf .xlsx .zip .tar .tgz .7z .rar .npy .npz .py'


@dataclasses.dataclass(frozen=True)
class Series:
    """One CT series; `labels` are its segmentations, often none."""

    name: str
    images: tuple[Path, ...]
    labels: tuple[Path, ...]
    patient: str
    study: str


def find_series(root: Path, files: Iterable[Path]) -> tuple[list[Series], str]:
    """All CT series among `files`, with names unique below `root`; and how many DICOM files there are of what.

    Raises:
        UserError: a damaged file, a segmentation whose series is not there.
    """
    headers = [read_header(path) for path in files if _may_be_dicom(path) and is_dicom(path)]
    series = _scans(headers)
    _log_passed_over(headers)
    labels = defaultdict(list)
    for segmentation in (header for header in headers if header.modality == 'SEG'):
        labels[_series_of(segmentation, series)].append(segmentation.path)
    names = _names(root, series)
    found = [
        Series(
            name=names[uid],
            images=tuple(sorted(header.path for header in group)),
            labels=tuple(sorted(labels[uid])),
            patient=group[0].patient,
            study=group[0].study,
        )
        for uid, group in series.items()
    ]
    return found, ', '.join(f'{count} of {kind or "no modality"}' for kind, count in _modalities(headers).items())


def find_images(root: Path, files: Iterable[Path]) -> tuple[list[tuple[str, tuple[Path, ...]]], list[UserError]]:
    """The CT series among `files` alone, as (name, slices), and what is wrong with files that cannot be read.

    A series beside such a file in a folder is left out: the file may be a slice of it.
    """
    headers: list[Header] = []
    damaged: dict[Path, UserError] = {}
    for path in files:
        try:
            if _may_be_dicom(path) and is_dicom(path):
                headers.append(_whole(read_header(path)))
        except UserError as error:
            damaged.setdefault(path.parent, error)
    series = {
        uid: group
        for uid, group in _scans(headers).items()
        if not any(header.path.parent in damaged for header in group)
    }
    names = _names(root, series)
    return [(names[uid], tuple(sorted(header.path for header in group))) for uid, group in series.items()], list(
        damaged.values()
    )


def _whole(header: Header) -> Header:
    """Refuse a file that was cut off before it says what it is: it may be a slice, and one at an end is not missed."""
    if not header.modality and not header.series:
        raise UserError(
            f'{header.path}: a DICOM file without Modality and SeriesInstanceUID; expected a sound file, '
            'export it again or move it away'
        )
    return header


def _scans(headers: Iterable[Header]) -> dict[str, list[Header]]:
    """The files of each CT series."""
    slices = defaultdict(list)
    for header in headers:
        if header.modality == 'CT' and 'LOCALIZER' not in header.image_type:
            slices[header.series].append(header)
    return {uid: group for uid, group in slices.items() if _is_scan(uid, group)}


def _may_be_dicom(path: Path) -> bool:
    return path.suffix.lower() not in _OTHER.split() and path.name.upper() != 'DICOMDIR' and path.is_file()


def _is_scan(uid: str, group: list[Header]) -> bool:
    frames = [frame for header in group for frame in header.frames]
    if not any(frame.position for frame in frames):
        log.info('%s: passed over, pictures without a position (series %s)', group[0].path, uid)
        return False
    if len(frames) < FEWEST_SLICES:
        log.info('%s: passed over, a series of %d slices (series %s)', group[0].path, len(frames), uid)
        return False
    return True


def _modalities(headers: list[Header]) -> Counter[str]:
    return Counter(header.modality for header in headers)


def _log_passed_over(headers: list[Header]) -> None:
    localizers = sum(header.modality == 'CT' and 'LOCALIZER' in header.image_type for header in headers)
    if localizers:
        log.info('passed over: %d localizer images', localizers)
    for modality, count in _modalities(headers).items():
        if modality == 'RTSTRUCT':
            log.warning('passed over: %d RTSTRUCT files; contours are not read, export them as DICOM-SEG', count)
        elif modality not in ('CT', 'SEG'):
            log.info('passed over: %d files of modality %s', count, modality or 'unknown')


def _series_of(segmentation: Header, series: dict[str, list[Header]]) -> str:
    """The series that a segmentation names, else the only one in its frame of reference."""
    candidates = [uid for uid in segmentation.references if uid in series]
    if not segmentation.references:
        frame = segmentation.frame_of_reference
        candidates = [uid for uid, group in series.items() if frame and group[0].frame_of_reference == frame]
    if len(candidates) != 1:
        wanted = ', '.join(segmentation.references) or f'with frame of reference {segmentation.frame_of_reference!r}'
        found = f'{len(candidates)} such series are' if candidates else 'no such CT series is'
        raise UserError(
            f'{segmentation.path}: a segmentation of series {wanted}, but {found} there; expected one, '
            'add it or move the segmentation away'
        )
    return candidates[0]


def _names(root: Path, series: dict[str, list[Header]]) -> dict[str, str]:
    """The folder of a series; where folders share a name the way to it, and where series share one their number."""
    ways = {}
    for uid, group in series.items():
        folder = min(header.path for header in group).parent
        ways[uid] = [plain_name(part) for part in (root.resolve().name, *folder.relative_to(root).parts)]
    names = {uid: way[-1] for uid, way in ways.items()}
    longer = {uid: '-'.join(way[1:] or way) for uid, way in ways.items()}
    numbered = {uid: f'{longer[uid]}-series-{plain_name(series[uid][0].series_number or "x")}' for uid in series}
    counted = {uid: f'{numbered[uid]}-{index}' for index, uid in enumerate(sorted(series))}
    for better in (longer, numbered, counted):
        often = Counter(names.values())
        names = {uid: better[uid] if often[name] > 1 else name for uid, name in names.items()}
    return names


def plain_name(text: str) -> str:
    """Names of cases become names of files."""
    return ''.join(letter if letter.isalnum() or letter in '._-' else '_' for letter in text)
