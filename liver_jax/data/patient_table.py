"""Which cases are of one patient: by a table, by the DICOM header, or left to the anatomy."""

import csv
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from liver_jax.errors import UserError

ANATOMY = 'from the anatomy: cases that look alike count as one patient'
BY_CASE = 'one per volume, as data.patients says'
HEADER = 'from the DICOM header (PatientID)'


def given_patients(
    names: Sequence[str], headers: Sequence[tuple[str, str]], root: Path, asked: str
) -> tuple[list[str], str]:
    """The patient of each case, '' where the anatomy is to tell, and the sentence that says where they come from.

    `headers` are (PatientID, StudyInstanceUID) of each case, empty where there is no DICOM. `asked` is the config field
    data.patients: 'signature', 'volume', a CSV, or '' for the best that is at hand.

    Raises:
        UserError: a CSV that cannot be read, says two things of a case, or lacks one.
    """
    if asked == 'volume':
        return list(names), BY_CASE
    if asked == 'signature':
        return [''] * len(names), ANATOMY
    if asked or (root / 'patients.csv').exists():
        path = Path(asked) if asked else root / 'patients.csv'
        given = _table(path)
        missing = [name for name in names if name not in given]
        if missing:
            raise UserError(
                f'{path}: no row for {", ".join(missing[:5])}; expected a row for each of the {len(names)} cases'
            )
        return [given[name] for name in names], f'from {path.name}'
    doubt = _doubt(headers)
    if doubt is None:
        return [patient for patient, _ in headers], HEADER
    return [''] * len(names), ANATOMY + doubt


def is_told(source: str) -> bool:
    """Whether a table told whose scans they are, so that nobody need look at the anatomy."""
    return not source.startswith((ANATOMY, BY_CASE, HEADER))


def _doubt(headers: Sequence[tuple[str, str]]) -> str | None:
    """Why PatientID does not tell patients apart: anonymising often writes one for all, or a new one per series."""
    patients = {patient for patient, _ in headers}
    if '' in patients or not patients:
        return '' if patients <= {''} else ' (some DICOM headers have no PatientID)'
    studies = defaultdict(set)
    for patient, study in headers:
        studies[study].add(patient)
    if len(patients) == 1 and len(studies) > 1:
        return f' (the DICOM headers call all {len(studies)} studies {min(patients)!r}, as anonymising does)'
    if any(study and len(of) > 1 for study, of in studies.items()):
        return ' (the DICOM headers give one study several PatientIDs, as anonymising does)'
    return None


def _table(path: Path) -> dict[str, str]:
    try:
        with open(path, newline='', encoding='utf-8-sig') as file:
            rows = [{k: (v or '').strip() for k, v in row.items() if k} for row in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f'{path}: cannot be read ({error}); expected a CSV with the columns case,patient') from error
    if not rows or not {'case', 'patient'} <= rows[0].keys() or not all(row['patient'] for row in rows):
        raise UserError(f'{path}: expected a CSV with the columns case,patient and a patient in every row')
    given: dict[str, str] = {}
    for row in rows:
        if given.setdefault(row['case'], row['patient']) != row['patient']:
            raise UserError(
                f'{path}: {row["case"]} is of {given[row["case"]]!r} and of {row["patient"]!r}; expected one patient'
            )
    return given
