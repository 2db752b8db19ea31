"""`liver-jax predict`: scans in, segmentations on their own grids and findings out, one scan after the other.

OUTPUT/NAME.nii.gz                  labels, with affine and header of the scan
OUTPUT/NAME.dcm                     the same as DICOM-SEG, where the scan is DICOM
OUTPUT/probabilities/NAME.nii.gz    if asked for: uint16 with a slope, so that readers get 0 to 1
OUTPUT/findings/NAME.json           lesions and volumes; what made them, by which a later run knows what is done
OUTPUT/findings.csv, manifest.json  of all scans
"""

import json
import logging
import platform
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import flax
import jax
import numpy as np

from liver_jax.data.fingerprint import dated, fingerprint
from liver_jax.data.formats.dicom_seg import write_segmentation
from liver_jax.data.formats.nifti import write_nifti
from liver_jax.data.layouts import Case
from liver_jax.data.scans import find_scans
from liver_jax.data.volumes import Scan, open_scan
from liver_jax.errors import UserError
from liver_jax.evaluation.findings import describe_findings, findings_csv, findings_text
from liver_jax.evaluation.segment import PROBABILITY_STEPS, Options, Segmented, Setup, load_setup, segment
from liver_jax.evaluation.volumes import to_native
from liver_jax.files import locked, write_atomically
from liver_jax.runtime.interrupt import Interrupted, StopRequest, watch_signals
from liver_jax.runtime.run_folder import write_json

log = logging.getLogger(__name__)
KNOWN_FROM = {'train': 'training', 'val': 'validation'}


def predict(
    workdir: Path, source: Path, output: Path, checkpoint: str, options: Options, liver_workdir: Path | None = None
) -> dict[str, Any]:
    """Segment the scans that `source` is or holds; returns the manifest, a scan that failed being a case of it.

    Scans that an earlier run finished with the same networks and options are left as they are.

    Raises:
        UserError: no scan there, no such network, options that do not suit it, an output among the scans.
        Interrupted: on SIGINT or SIGTERM; finished scans are kept.
    """
    cases, damaged = find_scans(source)
    check_output(source, output)
    setup = load_setup(workdir, checkpoint, options, liver_workdir)
    log.info('%d scans, %s at step %d', len(cases), setup.network.facts['model'], setup.network.facts['step'])
    return predict_cases(cases, damaged, output, setup)


def predict_cases(cases: Sequence[Case], damaged: Sequence[UserError], output: Path, setup: Setup) -> dict[str, Any]:
    """Segment each case into `output`; `damaged` are files found beside them. As `predict`."""
    started, clock = datetime.now(UTC).isoformat(timespec='seconds'), time.monotonic()
    entries: list[dict[str, Any]] = [_failure('', error) for error in damaged]
    with locked(output), watch_signals() as stop:
        try:
            for number, case in enumerate(cases, start=1):
                entries.append(_attempt(case, f'{case.name} ({number} of {len(cases)})', output, setup, stop))
        finally:  # a run that is stopped leaves word of what it did
            manifest = {
                'made_by': setup.describe(),
                'labels': {'0': 'background', **{str(value): text for value, text in setup.meanings.items()}},
                'versions': _versions(),
                'started': started,
                'seconds': round(time.monotonic() - clock, 2),
                'cases': entries,
            }
            write_json(output / 'manifest.json', manifest)
            records = [_read(_record(output, entry['case'])) for entry in entries if entry['status'] != 'failed']
            write_atomically(output / 'findings.csv', findings_csv(records))
    return manifest


def check_all_done(manifest: Mapping[str, Any], output: Path) -> None:
    """Raise UserError where a scan failed."""
    failed = [entry for entry in manifest['cases'] if entry['status'] == 'failed']
    if failed:
        rest = f'; and {len(failed) - 1} others, see {output / "manifest.json"}' if len(failed) > 1 else ''
        raise UserError(f'{len(failed)} of {len(manifest["cases"])} scans failed: {failed[0]["error"]}{rest}')


def check_output(source: Path, output: Path) -> None:
    """Refuse an output folder where scans would be written over, or taken for scans the next time."""
    home, target = source.resolve(), output.resolve()
    if target == home or home in target.parents or (source.is_file() and target == home.parent):
        raise UserError(f'--output={output}: lies among the scans of --input={source}; expected a folder of its own')


def _attempt(case: Case, title: str, output: Path, setup: Setup, stop: StopRequest) -> dict[str, Any]:
    """The manifest's entry of a case, whatever happens to it."""
    if stop.requested:
        raise Interrupted('stopped, finished scans are kept')
    clock = time.monotonic()
    try:
        record = _read(_record(output, case.name))
        kept = _is_done(record, case, output, setup)
        if not kept:
            if record:  # what an earlier run made otherwise must not pass for the result of this one, should it fail
                for path in (_record(output, case.name), *_paths(output, case.name)):
                    path.unlink(missing_ok=True)
            scan = open_scan(case, setup.network.predictor.window)
            made = segment(scan, setup, stop, title)
            stop.hold()  # a finished scan shall have its manifest
            record = _write(scan, made, output, setup)
    except Interrupted:
        raise
    except Exception as error:  # the other scans of a night's batch shall not wait for this one
        if not isinstance(error, UserError | OSError):
            log.exception('%s: an error that was not foreseen', title)
        log.warning('%s: failed: %s', title, one_line(error))
        return _failure(case.name, error)
    seconds = time.monotonic() - clock
    told = 'is there already' if kept else f'{record["slices"]} slices in {seconds:.1f} s'
    if known := record.get('known'):
        told += f', known to the network from its {KNOWN_FROM[known["part"]]} as {known["same_as"]}'
    log.info('%s: %s, %s', title, told, findings_text(record))
    return {
        'case': case.name,
        'status': 'kept' if kept else 'done',
        'slices': record['slices'],
        'seconds': round(seconds, 2),
        'input': {name: record['input'].get(name) for name in ('files', 'bytes', 'sha256', 'content_sha256')},
        'known': record.get('known'),
        'files': sorted(record['files']),
    }


def _write(scan: Scan, made: Segmented, output: Path, setup: Setup) -> dict[str, Any]:
    """Write all files of a case, the record of it last; returns this."""
    case, affine = scan.case, scan.image.affine
    like = case.images[0] if case.kind == 'nifti' else None
    labels = to_native(made.labels, scan)
    nifti, probabilities, segmentation = _paths(output, case.name)
    write_nifti(nifti, labels, affine, like)
    if made.probabilities is not None:
        probabilities.parent.mkdir(exist_ok=True)
        write_nifti(probabilities, to_native(made.probabilities, scan), affine, like, 1 / PROBABILITY_STEPS)
    if case.kind == 'dicom':
        name = str(setup.network.facts['model'])
        write_segmentation(segmentation, case.images, scan.image, labels, sorted(setup.meanings), name)
    record = {
        'case': case.name,
        'known': setup.network.known.get(made.content),
        'slices': scan.size[0],
        **describe_findings(made.labels, made.tumour_hu, scan, setup.meanings),
        'made_by': setup.describe(),
        'input': {**fingerprint(case.images), 'content_sha256': made.content},
        'files': {
            str(path.relative_to(output)): path.stat().st_size for path in _paths(output, case.name) if path.exists()
        },
    }
    write_json(_record(output, case.name), record)
    return record


def _is_done(record: Mapping[str, Any], case: Case, output: Path, setup: Setup) -> bool:
    """Whether an earlier run made this record, by the same setup and of the same files, and all of it is there."""
    there, here = record.get('input', {}), dated(case.images)
    if record.get('made_by') != setup.describe() or {name: there.get(name) for name in here} != here:
        return False
    files = {output / name: size for name, size in record['files'].items()}
    return all(path.is_file() and path.stat().st_size == size for path, size in files.items())


def _versions() -> dict[str, Any]:
    device = jax.devices()[0]
    return {
        'python': platform.python_version(),
        'jax': jax.__version__,
        'flax': flax.__version__,
        'numpy': np.__version__,
        'devices': f'{jax.device_count()} {device.device_kind}',
    }


def _paths(output: Path, case: str) -> tuple[Path, Path, Path]:
    """Labels, probabilities, DICOM-SEG."""
    return output / f'{case}.nii.gz', output / 'probabilities' / f'{case}.nii.gz', output / f'{case}.dcm'


def _record(output: Path, case: str) -> Path:
    return output / 'findings' / f'{case}.json'


def _read(path: Path) -> dict[str, Any]:
    """A record, empty where there is none that can be read."""
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _failure(case: str, error: Exception) -> dict[str, Any]:
    return {'case': case, 'status': 'failed', 'error': one_line(error)}


def one_line(error: Exception) -> str:
    """An error's message without what a hostile file name or header could do to a terminal."""
    text = ''.join(letter if letter.isprintable() else '?' for letter in str(error))
    return text or type(error).__name__
