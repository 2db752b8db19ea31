"""Raw volumes -> slice store: examine, window, choose slices, resize, hash; one volume at a time per worker.

Finished cases are kept beside the store in `STORE.partial` until all are there, so that a broken-off run goes on, and
so that several processes or hosts can each do a share of them (`shard`) before one joins them.
"""

import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from liver_jax.config import DataConfig
from liver_jax.data.examine import Examiner
from liver_jax.data.fingerprint import fingerprint, is_from
from liver_jax.data.layouts import Case, find_cases
from liver_jax.data.patients import describe_patients, find_copies, find_patients
from liver_jax.data.slices import is_kept, prepare_slice
from liver_jax.data.store import FORMAT, read_manifest, read_part, read_signature, write_part, write_store
from liver_jax.data.volumes import open_scan
from liver_jax.data.workers import over_cases
from liver_jax.errors import UserError
from liver_jax.files import locked

log = logging.getLogger(__name__)


def prepare(config: DataConfig, shard: tuple[int, int] | None = None, merge: bool = False) -> Path:
    """Make the slice store at `config.store` from the volumes below `config.raw`, or find it there already.

    With `shard` = (i, n) only every n-th volume from the i-th (of 0 … n - 1) is prepared, and no store made: any
    number of processes or hosts with the same disk may do so at once. With `merge` nothing is prepared, the finished
    volumes are joined to the store.

    Raises:
        UserError: a bad volume, no slice left, a store there that was made differently, a folder not to be written;
            with `merge`, volumes that are not there yet.
    """
    store, settings = Path(config.store), store_settings(config)
    cases, source = raw_cases(config)
    if not _is_free(store):
        check_store(store, settings, cases, source)
        log.info('store %s is already prepared', store)
        return store
    working = store.with_name(store.name + '.partial')
    with _errors_named(store):
        if shard:
            number, count = shard
            with locked(working, shared=True), locked(working / f'.shard-{number}-of-{count}'):
                _prepare_cases(cases[number::count], working, settings, config)
            log.info('shard %d of %d: %d volumes in %s', number, count, len(cases[number::count]), working)
            return working
        with locked(working):
            if _is_free(store):  # another process may have made it meanwhile
                if merge:
                    _check_complete(cases, working, settings)
                else:
                    _prepare_cases(cases, working, settings, config)
                _join(cases, source, working, settings, store, config)
            shutil.rmtree(working)
    log.info('%d slices of %d cases in %s', read_manifest(store)['slices'], len(cases), store)
    return store


def raw_cases(config: DataConfig) -> tuple[list[Case], str]:
    """The cases with labels below `config.raw`, and a sentence on where their patients come from.

    Raises:
        UserError: no such folder, nothing in it that can be trained on.
    """
    if not config.raw:
        raise UserError('config field data.raw is empty; expected the folder of CT volumes: --config.data.raw=PATH')
    cases, source = find_cases(Path(config.raw), config.patients, config.images, config.labels)
    faults = [case.fault for case in cases if case.fault]
    if faults:
        raise UserError(_first_of(faults))
    labelled = [case for case in cases if case.labels]
    if not labelled:
        raise UserError(f'{config.raw}: {len(cases)} scans, none with labels; expected segmentations beside them')
    if len(labelled) < len(cases):
        without = ', '.join(case.name for case in cases if not case.labels)
        log.warning(
            '%d of %d scans have no labels and are left out: %s', len(cases) - len(labelled), len(cases), without
        )
    return labelled, source


def store_settings(config: DataConfig) -> dict[str, Any]:
    """What the content of a store depends on, beside the volumes."""
    return {
        'image_size': config.image_size,
        'window': list(config.window),
        'slices': config.slices,
        'masks': config.masks,
    }


def check_store(store: Path, settings: dict[str, Any], cases: list[Case] | None = None, source: str = '') -> None:
    """Raise UserError unless the store was made with these settings and, where given, from these cases and patients."""
    manifest = read_manifest(store)
    for name, value in settings.items():
        found = manifest['settings'].get(name)
        if found != value:
            raise UserError(
                f'{store}: prepared with {name}={found!r}, but the config has data.{name}={value!r}; '
                'set another data.store or delete this one'
            )
    if cases is None:
        return
    there = {case['name']: case for case in manifest['cases']}
    here = {case.name: case for case in cases}
    for name in sorted(there.keys() | here.keys()):
        if name not in there or name not in here or not is_from(there[name], here[name]):
            raise UserError(
                f'{store}: prepared from other volumes ({name} is new, gone or changed); '
                'set another data.store or delete this one'
            )
    given = all(case.patient in ('', there[case.name]['patient']) for case in cases)
    if not given or not manifest['patients'].startswith(source):
        raise UserError(
            f'{store}: prepared with other patients ({manifest["patients"]}), now they are {source}; '
            'set another data.store or delete this one'
        )


@contextmanager
def _errors_named(store: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f'{error.filename or store}: {error.strerror or error}; expected a data.store that can be written'
        ) from error


def _is_free(store: Path) -> bool:
    """Whether a store can be made there: nothing is, or an empty folder."""
    if not store.exists() or (store.is_dir() and not any(store.iterdir())):
        return True
    if not (store / 'manifest.json').exists():
        raise UserError(f'{store}: there is something else than a slice store; set another data.store or move it away')
    return False


def _prepare_cases(cases: Sequence[Case], working: Path, settings: dict[str, Any], config: DataConfig) -> None:
    """Prepare each case into a folder of `working`, those that are there already left out."""
    _check_settings(working, settings)
    todo = [case for case in cases if not _is_done(case, working / case.name, settings)]
    log.info('%d volumes to prepare%s', len(todo), f', {len(cases) - len(todo)} are' if len(todo) < len(cases) else '')
    jobs = [(case, working / case.name, settings, config.worker_gb) for case in todo]
    warned: dict[str, list[str]] = {}
    refused: dict[int, str] = {}
    for number, (reasons, refusal) in over_cases(_try_case, jobs, config.workers, config.case_seconds, 'prepare'):
        if refusal:
            refused[number] = refusal
        for reason in reasons:
            warned.setdefault(reason, []).append(todo[number].name)
    for reason, names in warned.items():
        log.warning('%s: %s', ', '.join(sorted(names)), reason)
    if refused:
        raise UserError(_first_of([refused[number] for number in sorted(refused)]))


def _first_of(refusals: Sequence[str]) -> str:
    others = len(refusals) - 1
    return refusals[0] + (f' (and {others} more like it: liver-jax inspect lists them)' if others else '')


def _check_settings(working: Path, settings: dict[str, Any]) -> None:
    """Volumes that were prepared otherwise are not mixed with these."""
    for part in sorted(working.iterdir()):
        for name, value in read_part(part)['settings'].items():
            if value != {**settings, 'format': FORMAT}.get(name):
                raise UserError(
                    f'{working}: {part.name} was prepared with {name}={value!r}, now it is {settings.get(name)!r}; '
                    'put the setting back, set another data.store or delete this folder'
                )


def _check_complete(cases: Sequence[Case], working: Path, settings: dict[str, Any]) -> None:
    _check_settings(working, settings)
    missing = [case.name for case in cases if not _is_done(case, working / case.name, settings)]
    if missing:
        names = ', '.join(missing[:10]) + (', …' if len(missing) > 10 else '')
        raise UserError(
            f'{working}: {len(missing)} of {len(cases)} volumes are not prepared ({names}); '
            'run the shards that had them again, or prepare without --merge'
        )


def _join(
    cases: Sequence[Case], source: str, working: Path, settings: dict[str, Any], store: Path, config: DataConfig
) -> None:
    """Decide who is whose and write the store."""
    parts = [working / case.name for case in cases]
    entries = [read_part(part)['case'] for part in parts]
    if not sum(len(entry['slices']) for entry in entries):
        shutil.rmtree(working)  # it would only stand in the way of other settings
        raise UserError(
            f'{config.raw}: no slice left of {len(cases)} volumes with data.slices={config.slices!r}; '
            "expected volumes with such labels, or set data.slices='all'"
        )
    contents = [entry['content_sha256'] for entry in entries]
    patients, look_alikes = find_patients(cases, [read_signature(part) for part in parts], contents, source)
    source = '; '.join(filter(None, [source, describe_patients(patients)]))
    log.info('patients: %s', source)
    patient_of = {case: patient.patient for patient in patients for case in patient.cases}
    for entry in entries:
        entry['patient'] = patient_of[entry['name']]
    names = [entry['name'] for entry in entries]
    for copies, one_patient in find_copies(names, contents, [entry['patient'] for entry in entries]):
        if not one_patient:
            raise UserError(
                f'{config.raw}: {" and ".join(copies)} are the same scan, given to different patients; '
                'expected one patient, correct patients.csv or remove one'
            )
        log.warning('%s are the same scan; remove one, it counts twice', ' and '.join(copies))
    for one, other, similarity in look_alikes:
        log.warning('%s and %s look alike (similarity %.2f): perhaps one patient', one, other, similarity)
    write_store(store, settings, source, look_alikes, entries, parts, working)


def _is_done(case: Case, part: Path, settings: dict[str, Any]) -> bool:
    found = read_part(part)
    return found['settings'] == {**settings, 'format': FORMAT} and is_from(found['case'], case)


def _try_case(case: Case, part: Path, settings: dict[str, Any], budget_gb: float) -> tuple[list[str], str]:
    """What there is to warn of, and why the case is refused (empty if it is not)."""
    try:
        return _prepare_case(case, part, settings, budget_gb), ''
    except UserError as error:
        return [], str(error)


def _prepare_case(case: Case, part: Path, settings: dict[str, Any], budget_gb: float) -> list[str]:
    """Examine a case and write its slices; returns what there is to warn of."""
    scan = open_scan(case, tuple(settings['window']))
    scan.check_held(budget_gb)
    side, masks = settings['image_size'], settings['masks']
    examiner = Examiner(scan)
    kept: dict[int, dict[str, np.ndarray]] = {}
    areas: dict[int, dict[str, float]] = {}
    pixel = scan.spacing[1] * scan.spacing[2]
    for plane in scan.planes():
        examiner.add(plane)
        if is_kept(plane.labels, settings['slices']):
            kept[plane.index] = prepare_slice(plane.hu, plane.labels, settings['window'], side, masks)
            inside = {'liver_mm2': plane.labels >= 1, 'tumor_mm2': plane.labels == 2}
            areas[plane.index] = {name: round(float(mask.sum() * pixel), 2) for name, mask in inside.items()}
    found = examiner.finish()
    if found.verdict == 'refuse':
        raise UserError(f'{case.images[0]}: {found.reasons[0]}')
    order = sorted(kept)
    empty = np.zeros((0, side, side), np.uint8)
    arrays = {
        name: np.stack([kept[k][name] for k in order]) if order else empty for name in ('images', 'liver', 'tumor')
    }
    entry = {
        'name': case.name,
        'image': fingerprint(case.images),
        'label': fingerprint(case.labels),
        **found.describe(),
        **scan.describe(),
        'slices': [{'slice': k, **areas[k]} for k in order],
    }
    write_part(part, arrays, entry, {**settings, 'format': FORMAT}, found.signature)
    return found.reasons
