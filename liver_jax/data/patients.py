"""Whose scans they are: as given, or else from the anatomy, and how sure that is."""

import dataclasses
import logging
from collections.abc import Sequence
from typing import Literal

import numpy as np

from liver_jax.data.layouts import Case
from liver_jax.data.patient_table import is_told
from liver_jax.data.signature import PERHAPS, SAME, similarities

Sure = Literal['given', 'certain', 'likely', 'uncertain', 'unknown']
log = logging.getLogger(__name__)
MANY = 20  # scans whose comparison is felt
CLEAR = 0.6  # similarity from which one patient is likely, not just more likely than not


@dataclasses.dataclass(frozen=True)
class Patient:
    """The cases of one person.

    `similarity` is the weakest link that holds them together (None for a single case or as given),
    `nearest` the highest with a case of somebody else. `sure`: 'given' by a table or header; 'certain' (the same
    scan), 'likely' or 'uncertain' by the anatomy; 'unknown' where the scan is too small to tell.
    """

    patient: str
    cases: list[str]
    similarity: float | None
    nearest: tuple[str, float] | None
    sure: Sure


def find_patients(
    cases: Sequence[Case], signatures: Sequence[np.ndarray | None], contents: Sequence[str], source: str
) -> tuple[list[Patient], list[tuple[str, str, float]]]:
    """The patients of the cases; and cases of two patients that may be of one (case, case, similarity).

    Patients found by anatomy are called by the name of their first case. Where a table told them (`source`, see
    `patient_table`) nobody is compared.
    """
    names = [case.name for case in cases]
    told = is_told(source)
    if len(cases) > MANY and not told:
        log.info('comparing the anatomy of %d scans, which takes a moment', len(cases))
    alike = np.full((len(cases), len(cases)), np.nan) if told else similarities(signatures, contents)
    if all(case.patient for case in cases):
        owners = {case.patient: [c.name for c in cases if c.patient == case.patient] for case in cases}
        patients = [Patient(patient, members, None, None, 'given') for patient, members in owners.items()]
    else:
        known = [signature is not None for signature in signatures]
        patients = [_describe(group, names, alike, known[group[0]]) for group in _linked(alike >= SAME)]
    owner = {case: patient.patient for patient in patients for case in patient.cases}
    pairs = [(names[i], names[j], round(float(alike[i, j]), 3)) for i, j in np.argwhere(np.triu(alike >= PERHAPS))]
    return patients, [pair for pair in pairs if owner[pair[0]] != owner[pair[1]]]


def describe_patients(patients: Sequence[Patient]) -> str:
    """Who was found to be whom, in words; empty where all were given."""
    found = [patient for patient in patients if patient.sure != 'given']
    words = [
        f'{" and ".join(each.cases)} are one patient ({each.sure}, similarity {each.similarity})'
        for each in found
        if len(each.cases) > 1
    ]
    for each in found:
        if each.nearest and each.nearest[1] >= PERHAPS:
            words.append(f'{each.cases[0]} may be of the patient of {each.nearest[0]} (similarity {each.nearest[1]})')
    unknown = sum(each.sure == 'unknown' for each in found)
    if unknown:
        words.append(f'of {unknown} it cannot tell, each is taken for another patient')
    return '; '.join(words or ['no two are alike']) if found else ''


def find_copies(names: Sequence[str], contents: Sequence[str], patients: Sequence[str]) -> list[tuple[list[str], bool]]:
    """Scans that are there more than once, by the names of their cases, and whether they were given to one patient."""
    places: dict[str, list[int]] = {}
    for number, content in enumerate(contents):
        places.setdefault(content, []).append(number)
    several = [numbers for numbers in places.values() if len(numbers) > 1]
    return [([names[n] for n in numbers], len({patients[n] for n in numbers}) == 1) for numbers in several]


def _linked(links: np.ndarray) -> list[list[int]]:
    """Groups of positions that are linked, directly or through others, in order."""
    owner = np.arange(len(links))
    for first, second in np.argwhere(links):
        owner[owner == max(owner[first], owner[second])] = min(owner[first], owner[second])
    return [np.flatnonzero(owner == each).tolist() for each in np.unique(owner)]


def _weakest_link(alike: np.ndarray) -> float:
    """The highest similarity that still holds all together."""
    levels = np.unique(alike[~np.isnan(alike)])[::-1]
    return round(next(float(level) for level in levels if len(_linked(alike >= level)) == 1), 2)


def _describe(group: list[int], names: list[str], alike: np.ndarray, known: bool) -> Patient:
    others = [each for each in range(len(names)) if each not in group]
    outside = np.nan_to_num(alike[np.ix_(group, others)], nan=-1.0).max(axis=0, initial=-1.0)
    nearest = (names[others[int(outside.argmax())]], round(float(outside.max()), 2)) if others else None
    nearest = nearest if nearest and nearest[1] > -1 else None
    similarity = _weakest_link(alike[np.ix_(group, group)]) if len(group) > 1 else None
    sure: Sure
    if similarity is not None:
        sure = 'certain' if similarity == 1 else 'likely' if similarity >= CLEAR else 'uncertain'
    elif known:
        sure = 'uncertain' if nearest and nearest[1] >= PERHAPS else 'likely'
    else:
        sure = 'unknown'
    return Patient(names[group[0]], [names[each] for each in group], similarity, nearest, sure)
