"""What a split says of itself, and what can be checked of it without the slices: the certificate, the digest, the file.

`split.json` can be read by a person: settings, certificate, digest, and per part a line for each case with its
patient, the hash of its voxels and its slices.
"""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from liver_jax.errors import UserError
from liver_jax.files import write_atomically

PARTS = ('train', 'val', 'test')
SLICE_WARNING = (
    'split by slice: neighbouring slices of one patient lie on both sides, '
    'so these scores say little about new patients'
)
ALIKE = 0.5  # similarity from which two scans are more likely than not of one patient (see `signature`)
MADE_AGAIN = 'delete it, it is made again from the seed'


@dataclasses.dataclass(frozen=True)
class CasePart:
    """The slices of a case that are in one part; by patient these are all that it has in the store."""

    case: str
    patient: str
    content: str
    slices: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Record:
    """A split as its file tells it.

    `settings` as in `SplitConfig`, `store` the digest of the store, cases by part; `patients_from` says where it is
    known from whose scans they are, `look_alikes` which of other patients look alike (case, case, similarity).
    """

    settings: dict[str, Any]
    store: str
    parts: dict[str, list[CasePart]]
    patients_from: str
    look_alikes: tuple[tuple[str, str, float], ...]

    @property
    def warning(self) -> str:
        """What every table and picture must say; empty for a split by patient that nothing speaks against."""
        if self.settings['by'] == 'slice':
            return SLICE_WARNING
        across = [words for words, similarity in self._alike_across() if similarity >= ALIKE]
        return f'perhaps no split by patient: {"; ".join(across)}' if across else ''

    @property
    def digest(self) -> str:
        """Hash of settings and of who is where, by content; the same for the same split in another layout of the file.

        Checkpoints carry it.
        """
        plain = {part: [dataclasses.asdict(case) for case in cases] for part, cases in self.parts.items()}
        return hashlib.sha256(json.dumps([self.settings, plain], sort_keys=True).encode()).hexdigest()

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Patients, cases and slices in each part."""
        return {
            part: {
                'patients': len({case.patient for case in cases}),
                'cases': len({case.case for case in cases}),
                'slices': sum(len(case.slices) for case in cases),
            }
            for part, cases in self.parts.items()
        }

    @property
    def certificate(self) -> dict[str, Any]:
        """Whether patients are `disjoint`, scans that are in two parts under two names (`duplicates`), in words too."""
        shared, duplicates = _shared(self.parts, 'patient'), _shared(self.parts, 'content', by_name=True)
        patients = {part: numbers['patients'] for part, numbers in self.counts.items()}
        return {
            'by': self.settings['by'],
            'disjoint': not shared,
            'duplicates': [sorted({case.case for _, case in places}) for places in duplicates.values()],
            'patients': patients,
            'patients_from': self.patients_from,
            'alike_across_parts': [words for words, _ in self._alike_across()],
            'sentence': self._sentence(len(shared)),
            'warning': self.warning,
        }

    @property
    def known(self) -> dict[str, dict[str, str]]:
        """What was in training or validation, by the hash of its voxels: its `part`, and `same_as`, the case there."""
        return {
            case.content: {'part': part, 'same_as': case.case} for part in ('val', 'train') for case in self.parts[part]
        }

    def _alike_across(self) -> list[tuple[str, float]]:
        """In words, and how alike: scans of two parts that may be of one patient."""
        part_of = {case.case: part for part, cases in self.parts.items() for case in cases}
        across = []
        for one, other, similarity in self.look_alikes if self.settings['by'] == 'patient' else ():
            first, second = part_of.get(one), part_of.get(other)
            if first and second and first != second:
                words = f'{one} ({first}) and {other} ({second}) look alike (similarity {similarity:.2f})'
                across.append((words, similarity))
        return across

    def _sentence(self, shared: int) -> str:
        folds, fold = self.settings['folds'], self.settings['fold']
        which = f' (fold {fold} of 0 to {folds - 1})' if folds else ''
        numbers = self.counts.values()
        if self.settings['by'] == 'slice':
            total = len({case.patient for cases in self.parts.values() for case in cases})
            slices = '/'.join(str(number['slices']) for number in numbers)
            return f'split by slice{which}: {slices} slices, {shared} of {total} patients in more than one part'
        patients = '/'.join(str(number['patients']) for number in numbers)
        return f'split by patient{which}: {patients} patients, no patient and no volume in two parts'


def write_split(path: Path, split: Record) -> None:
    """Write the split as JSON, a line per case and part."""
    head = {
        'settings': split.settings, 'store': split.store, 'digest': split.digest, 'certificate': split.certificate,
        'patients_from': split.patients_from, 'look_alikes': split.look_alikes,
    }  # fmt: skip
    lines = [f'  "{name}": {json.dumps(value)}' for name, value in head.items()]
    for part, cases in split.parts.items():
        inside = ',\n'.join('    ' + json.dumps(dataclasses.asdict(case)) for case in cases)
        lines.append(f'  "{part}": [\n{inside}\n  ]')
    write_atomically(path, '{\n' + ',\n'.join(lines) + '\n}\n')


def read_record(path: Path) -> Record:
    """What the file says, checked as far as it goes without the store.

    Raises:
        UserError: no file, not a split, a patient or scan on two sides, or a certificate or digest that does not hold.
    """
    record, stated = parse_record(path)
    check_record(path, record, stated)
    return record


def parse_record(path: Path) -> tuple[Record, dict[str, Any]]:
    """What the file says, and the `digest` and `certificate` it states, both unchecked."""
    try:
        values = json.loads(path.read_text())
        parts = {
            part: [
                CasePart(str(case['case']), str(case['patient']), str(case['content']), tuple(map(int, case['slices'])))
                for case in values[part]
            ]
            for part in PARTS
        }
        settings = values['settings']
        if settings['by'] not in ('patient', 'slice') or not isinstance(settings['folds'] + settings['fold'], int):
            raise ValueError(f'settings {settings}')
        if not all(case.slices for cases in parts.values() for case in cases):
            raise ValueError('a case without slices')
        alike = tuple((str(one), str(other), float(similarity)) for one, other, similarity in values['look_alikes'])
        record = Record(settings, str(values['store']), parts, str(values['patients_from']), alike)
        return record, {name: values[name] for name in ('digest', 'certificate')}
    except FileNotFoundError as error:
        raise UserError(
            f'{path}: no split there; bring it back, or let `liver-jax train` make it again from the seed'
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise UserError(f'{path}: not a readable split ({type(error).__name__}: {error}); {MADE_AGAIN}') from error


def check_record(path: Path, record: Record, stated: dict[str, Any]) -> None:
    """No slice, and by patient no patient and no scan, on two sides; something in each; as the file states."""
    if not all(record.parts.values()):
        raise UserError(f'{path}: a part without slices; expected some in each; {MADE_AGAIN}')
    keys = ('patient', 'content') if record.settings['by'] == 'patient' else ()
    for key in keys:
        for value, places in _shared(record.parts, key).items():
            (first, one), (second, other) = places[0], next(place for place in places if place[0] != places[0][0])
            what = f'patient {value}' if key == 'patient' else 'the same scan'
            raise UserError(
                f'{path}: {what} is in {first} ({one.case}) and in {second} ({other.case}); '
                f'expected disjoint parts; {MADE_AGAIN}'
            )
    slices = [(case.case, index) for cases in record.parts.values() for case in cases for index in case.slices]
    if len(slices) != len(set(slices)):
        case, index = next(each for each in slices if slices.count(each) > 1)
        raise UserError(f'{path}: slice {index} of {case} is there twice; expected disjoint parts; {MADE_AGAIN}')
    for name, found in (('certificate', record.certificate), ('digest', record.digest)):
        if stated[name] != found:
            raise UserError(f'{path}: its {name} does not hold for its cases, it was edited; {MADE_AGAIN}')


def check_trained_on(path: Path, split: Record, digest: str) -> None:
    """Raise UserError unless `digest`, which a checkpoint carries, is that of the split at `path`."""
    if not digest:
        raise UserError(
            f'{path}: the checkpoint does not say on which split it was trained, another version made it; '
            'train again in a new --workdir'
        )
    if digest != split.digest:
        raise UserError(
            f'{path}: not the split that the checkpoint was trained on ({split.digest[:12]}, expected {digest[:12]}); '
            'bring that one back, or use a new --workdir'
        )


def _shared(parts: dict[str, list[CasePart]], key: str, by_name: bool = False) -> dict[str, list[tuple[str, CasePart]]]:
    """Values of a field that occur in two parts, each with its places; `by_name`: and under two names of cases."""
    places: dict[str, list[tuple[str, CasePart]]] = {}
    for part, cases in parts.items():
        for case in cases:
            places.setdefault(getattr(case, key), []).append((part, case))
    return {
        value: there
        for value, there in places.items()
        if len({part for part, _ in there}) > 1 and (not by_name or len({case.case for _, case in there}) > 1)
    }
