"""Raw volumes -> slice store: window, choose slices, resize, hash; one volume at a time per worker.

Finished cases are kept beside the store in `STORE.partial` until all are there, so that a broken-off run goes on.
"""

import hashlib
import logging
import multiprocessing
import os
import shutil
import signal
import threading
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from liver_jax.config import PATIENT_SOURCES, DataConfig
from liver_jax.data.layouts import Case, find_cases
from liver_jax.data.store import read_manifest, read_part, write_part, write_store
from liver_jax.data.volumes import Volume, read_case
from liver_jax.errors import UserError
from liver_jax.files import locked

log = logging.getLogger(__name__)


def prepare(config: DataConfig) -> Path:
    """Make the slice store at `config.store` from the volumes below `config.raw`, or find it there already.

    Raises:
        UserError: a bad volume, no slice left, a store there that was made differently, a folder not to be written.
    """
    if not config.raw:
        raise UserError('config field data.raw is empty; expected the folder of CT volumes: --config.data.raw=PATH')
    store, settings = Path(config.store), store_settings(config)
    csv = Path(config.patients) if config.patients not in PATIENT_SOURCES else None
    cases, source = find_cases(Path(config.raw), csv)
    log.info('%d cases below %s; patients: %s', len(cases), config.raw, source)
    if not _is_free(store):
        check_store(store, settings, cases)
        log.info('store %s is already prepared', store)
        return store
    try:
        working = store.with_name(store.name + '.partial')
        with locked(working):
            if _is_free(store):  # another process may have made it meanwhile
                _make(store, working, settings, cases, source, config)
            shutil.rmtree(working)
    except OSError as error:
        raise UserError(
            f'{error.filename or store}: {error.strerror or error}; expected a data.store that can be written'
        ) from error
    except BrokenProcessPool as error:
        raise UserError(
            f'{config.raw}: a process that prepares volumes was killed, perhaps for lack of memory; '
            'set data.workers lower and go on with the same command, finished volumes are kept'
        ) from error
    log.info('%d slices of %d cases in %s', read_manifest(store)['slices'], len(cases), store)
    return store


def store_settings(config: DataConfig) -> dict[str, Any]:
    """What the content of a store depends on, beside the volumes."""
    return {
        'image_size': config.image_size,
        'window': list(config.window),
        'slices': config.slices,
        'masks': config.masks,
    }


def check_store(store: Path, settings: dict[str, Any], cases: list[Case] | None = None) -> None:
    """Raise UserError unless the store was made with these settings and, where given, from these cases."""
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
        if name not in there or name not in here or not _is_from(there[name], here[name]):
            raise UserError(
                f'{store}: prepared from other volumes ({name} is new, gone or changed); '
                'set another data.store or delete this one'
            )


def _is_free(store: Path) -> bool:
    """Whether a store can be made there: nothing is, or an empty folder."""
    if not store.exists() or (store.is_dir() and not any(store.iterdir())):
        return True
    if not (store / 'manifest.json').exists():
        raise UserError(f'{store}: there is something else than a slice store; set another data.store or move it away')
    return False


def _make(
    store: Path, working: Path, settings: dict[str, Any], cases: list[Case], source: str, config: DataConfig
) -> None:
    parts = _prepare_all(cases, settings, working, config.workers)
    kept = sum(len(read_part(part)['case']['slices']) for part in parts)
    if not kept:
        raise UserError(
            f'{config.raw}: no slice left of {len(cases)} volumes with data.slices={config.slices!r}; '
            "expected volumes with such labels, or set data.slices='all'"
        )
    write_store(store, settings, source, parts, working)


def _prepare_all(cases: list[Case], settings: dict[str, Any], working: Path, workers: int) -> list[Path]:
    """Prepare each case into a folder of `working`; returns those folders in the order of the cases."""
    working.mkdir(parents=True, exist_ok=True)
    parts = [working / case.name for case in cases]
    todo = [(case, part) for case, part in zip(cases, parts, strict=True) if not _is_done(case, part, settings)]
    bar = tqdm(total=len(cases), initial=len(cases) - len(todo), desc='prepare', unit='volume', disable=None)
    with bar:
        if workers == 1 or len(todo) <= 1:
            for case, part in todo:
                _prepare_case(case, part, settings)
                bar.update()
            return parts
        # Spawned, not forked: a fork would copy the locks of threads that libraries have started.
        context = multiprocessing.get_context('spawn')
        with ProcessPoolExecutor(min(workers, len(todo)), context, _follow_parent) as pool:
            try:
                # Workers are born deaf to Ctrl-C, which is the parent's: they would die of it while they import.
                signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
                done = pool.map(_prepare_case, *zip(*todo, strict=True), [settings] * len(todo))
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
                for _ in done:
                    bar.update()
            except BaseException:
                for worker in multiprocessing.active_children():
                    worker.kill()  # nothing is lost but their volumes of the moment: parts get their names when whole
                pool.shutdown(cancel_futures=True)
                raise
    return parts


def _follow_parent() -> None:
    """In a worker: leave Ctrl-C to the parent, and end when the parent was killed (it would wait for work forever)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        assert parent is not None
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _is_done(case: Case, part: Path, settings: dict[str, Any]) -> bool:
    found = read_part(part)
    return found['settings'] == settings and _is_from(found['case'], case)


def _is_from(entry: dict[str, Any], case: Case) -> bool:
    """Whether the manifest's entry is of this case; files of another date than then are hashed again."""
    if (entry['patient'], entry['bytes']) != (case.patient, _bytes(case)):
        return False
    hashes = (entry['image_sha256'], entry['label_sha256'])
    files = zip((case.images[0], case.labels[0]), entry['modified_ns'], hashes, strict=True)
    return all(path.stat().st_mtime_ns == modified or _sha256(path) == sha256 for path, modified, sha256 in files)


def _prepare_case(case: Case, part: Path, settings: dict[str, Any]) -> None:
    volume = read_case(case)
    slices = _choose_slices(volume.labels, settings['slices'])
    side, masks = settings['image_size'], settings['masks']
    arrays = {
        'images': _stack([_resize(_windowed(volume.hu[k], *settings['window']), side) for k in slices], side),
        'liver': _stack([_resize(volume.labels[k] >= 1, side, hard=masks == 'nearest') for k in slices], side),
        'tumor': _stack([_resize(volume.labels[k] == 2, side, hard=masks == 'nearest') for k in slices], side),
    }
    write_part(part, arrays, _describe(case, volume, slices), settings)


def _choose_slices(labels: np.ndarray, which: str) -> list[int]:
    least = {'tumor': 2, 'liver': 1, 'all': 0}[which]
    return [k for k in range(len(labels)) if labels[k].max(initial=0) >= least]


def _windowed(hu: np.ndarray, low: float, high: float) -> np.ndarray:
    """HU [rows, columns] -> float32 in [0, 1]."""
    return (np.clip(hu.astype(np.float32), low, high) - low) / np.float32(high - low)


def _resize(plane: np.ndarray, side: int, hard: bool = False) -> np.ndarray:
    """[rows, columns] in [0, 1] -> [side, side] float32: padded to a square, then area-averaged (or nearest).

    Enlarging interpolates linearly.
    """
    rows, columns = plane.shape
    longest = max(rows, columns)
    top, left = (longest - rows) // 2, (longest - columns) // 2
    square = np.zeros((longest, longest), np.float32)
    square[top : top + rows, left : left + columns] = plane
    if longest > side and longest % side and not hard:
        return _area_average(square, side)
    method = Image.Resampling.BOX if longest >= side else Image.Resampling.BILINEAR
    resized = Image.fromarray(square).resize((side, side), Image.Resampling.NEAREST if hard else method)
    return np.asarray(resized, np.float32)


def _area_average(plane: np.ndarray, side: int) -> np.ndarray:
    """Means over `side` x `side` equal areas, pixels on a border counted by their share.

    Pillow's box filter does this where the sides divide; elsewhere it gives a shared pixel whole to both or to one.
    """
    for _ in range(2):  # rows, then, transposed, columns
        edges = np.arange(side + 1) * len(plane) / side
        last = np.minimum(edges.astype(int), len(plane) - 1)
        sums = np.vstack([np.zeros_like(plane[:1], np.float64), plane.cumsum(0, np.float64)])
        up_to_edge = sums[last] + (edges - last)[:, None] * plane[last]
        plane = (np.diff(up_to_edge, axis=0) * (side / len(plane))).T
    return plane.astype(np.float32)


def _stack(planes: list[np.ndarray], side: int) -> np.ndarray:
    """Planes in [0, 1] -> uint8 [len(planes), side, side] in 0..255."""
    stacked = np.stack(planes) if planes else np.zeros((0, side, side), np.float32)
    return np.rint(np.clip(stacked, 0, 1) * 255).astype(np.uint8)


def _describe(case: Case, volume: Volume, slices: list[int]) -> dict[str, Any]:
    """The case's entry in the manifest."""
    pixel = volume.spacing[1] * volume.spacing[2]
    return {
        'name': case.name,
        'patient': case.patient,
        'image': case.images[0].name,
        'label': case.labels[0].name,
        'content_sha256': hashlib.sha256(np.ascontiguousarray(volume.hu)).hexdigest(),
        'image_sha256': _sha256(case.images[0]),
        'label_sha256': _sha256(case.labels[0]),
        'bytes': _bytes(case),
        'modified_ns': [path.stat().st_mtime_ns for path in (case.images[0], case.labels[0])],
        'shape': list(volume.shape),
        'orientation': volume.orientation,
        'spacing_mm': [round(mm, 6) for mm in volume.spacing],
        'slices': [
            {
                'slice': k,
                'liver_mm2': round(float((volume.labels[k] >= 1).sum() * pixel), 2),
                'tumor_mm2': round(float((volume.labels[k] == 2).sum() * pixel), 2),
            }
            for k in slices
        ],
    }


def _sha256(path: Path) -> str:
    with open(path, 'rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def _bytes(case: Case) -> list[int]:
    return [case.images[0].stat().st_size, case.labels[0].stat().st_size]
