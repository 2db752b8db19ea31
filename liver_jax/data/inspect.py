"""`liver-jax inspect`: a verdict on every case of a folder, and whose scans they are, before anything is trained."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from liver_jax.config import DataConfig
from liver_jax.data.examine import VERDICTS, Examiner
from liver_jax.data.layouts import Case, find_cases
from liver_jax.data.patients import find_copies, find_patients
from liver_jax.data.slices import prepare_slice
from liver_jax.data.volumes import Plane, open_scan
from liver_jax.data.workers import over_cases
from liver_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """The slice of a case with most tumour (or liver, or the middle one): uint8 [side, side] arrays, and its index."""

    case: str
    index: int
    image: np.ndarray
    liver: np.ndarray
    tumor: np.ndarray


def inspect_folder(data: DataConfig, side: int) -> tuple[dict[str, Any], list[Snapshot]]:
    """Examine every case below `data.raw`; returns what was found as plain data, and a slice of each readable case.

    `cases` has an entry per case with `case`, `verdict` ('ok', 'warn', 'refuse'), `reasons` and `patient`; `patients`
    the groups (see `patients.Patient`); `source` says where they come from. `side` is that of the snapshots in pixels.

    Raises:
        UserError: no such folder, or nothing in it that is a case.
    """
    if not data.raw:
        raise UserError('no folder given; expected liver-jax inspect DIR, or data.raw in the config')
    cases, source = find_cases(Path(data.raw), data.patients, data.images, data.labels)
    found: list[dict[str, Any]] = [{}] * len(cases)
    jobs = [(case, side, data.window, data.worker_gb) for case in cases]
    for number, result in over_cases(_inspect_case, jobs, data.workers, data.case_seconds, 'inspect'):
        found[number] = result
    signatures = [each.pop('signature') for each in found]
    snapshots = [each.pop('snapshot') for each in found]
    # What cannot be read is a patient of its own: its hash is like no other.
    contents = [each.get('content_sha256', each['case']) for each in found]
    groups, look_alikes = find_patients(cases, signatures, contents, source)
    patient_of = {case: group.patient for group in groups for case in group.cases}
    for entry in found:
        entry['patient'] = patient_of[entry['case']]
    _mark_copies(found, contents)
    report = {
        'cases': found,
        'patients': [dataclasses.asdict(group) for group in groups],
        'source': source,
        'look_alikes': look_alikes,
        'window': list(data.window),
    }
    return report, [snapshot for snapshot in snapshots if snapshot]


def _inspect_case(case: Case, side: int, window: tuple[float, float], budget_gb: float) -> dict[str, Any]:
    entry: dict[str, Any] = {'case': case.name, 'verdict': 'ok', 'reasons': [], 'patient': ''}
    nothing = {'signature': None, 'snapshot': None}
    if case.fault:
        return {**entry, 'verdict': 'refuse', 'reasons': [case.fault], **nothing}
    try:
        scan = open_scan(case, window)
        scan.check_held(budget_gb)
        examiner = Examiner(scan)
        best, most = None, (-1, 0, 0.0)
        for plane in scan.planes():
            examiner.add(plane)
            from_middle = abs(plane.index - scan.size[0] / 2)
            worth = (int((plane.labels == 2).sum()), int((plane.labels == 1).sum()), -from_middle)
            if worth > most:
                best, most = plane, worth
        found = examiner.finish()
    except (UserError, OSError) as error:
        return {**entry, 'verdict': 'refuse', 'reasons': [str(error)], **nothing}
    assert best
    return {
        **entry,
        **found.describe(),
        **scan.describe(),
        'signature': found.signature,
        'snapshot': _snapshot(case, best, side, window),
    }


def _snapshot(case: Case, plane: Plane, side: int, window: tuple[float, float]) -> Snapshot:
    arrays = prepare_slice(plane.hu, plane.labels, window, side, 'soft')
    return Snapshot(case.name, plane.index, arrays['images'], arrays['liver'], arrays['tumor'])


def _mark_copies(entries: list[dict[str, Any]], contents: list[str]) -> None:
    """A scan that is there twice is worth a word; given to two patients it is a contradiction."""
    by_name = {entry['case']: entry for entry in entries}
    for names, one_patient in find_copies(list(by_name), contents, [entry['patient'] for entry in entries]):
        for name in names:
            entry = by_name[name]
            others = [by_name[other] for other in names if other != name]
            relabelled = any(other['labels_sha256'] != entry['labels_sha256'] for other in others)
            what = ' with other labels' * relabelled + (
                f'; keep one, it counts {len(names)} times' if one_patient else
                ', given to another patient; correct patients.csv'
            )  # fmt: skip
            entry['verdict'] = max(entry['verdict'], 'warn' if one_patient else 'refuse', key=VERDICTS.index)
            entry['reasons'].append(f'the same scan as {", ".join(other["case"] for other in others)}{what}')
