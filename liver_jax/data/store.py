"""The slice store: a folder of memory-mapped arrays and a manifest that a person can read.

    images.npy   uint8 [slices, side, side]     HU window scaled to 0..255
    liver.npy    uint8 [slices, side, side]     liver or tumour (labels 1 and 2), 0..255, soft or hard
    tumor.npy    uint8 [slices, side, side]     tumour (label 2), 0..255
    manifest.json                               settings, cases with their slices, areas, spacing, file hashes

The manifest is written last and the folder renamed into place, so a folder with this name is whole.
"""

import dataclasses
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from liver_jax.data.buffers import Buffers
from liver_jax.errors import UserError

FORMAT = 2
_ARRAYS = ('images', 'liver', 'tumor')
_SIGNATURE = 'signature.npy'


@dataclasses.dataclass(frozen=True)
class SliceRow:
    """Where a row of the arrays comes from; `index` is the slice counted from the feet, areas in mm²."""

    case: str
    patient: str
    index: int
    liver_area: float
    tumor_area: float


class SliceStore:
    """Random access to prepared slices, memory-mapped.

    `look_alikes` are cases of two patients that look alike (case, case, similarity), unless a table told whose they
    are. By case: `contents` are hashes of the voxels, the same for one scan in whatever file; `tumor_mm3` volumes.
    """

    def __init__(self, path: Path) -> None:
        """Open the store at `path`; raises UserError when it is not a whole store of this version."""
        self.path = path
        self.manifest = read_manifest(path)
        try:
            # As plain arrays: what np.memmap adds to every access is not needed.
            self._arrays = {name: np.asarray(np.lib.format.open_memmap(path / f'{name}.npy', 'r')) for name in _ARRAYS}
            self.rows = [
                SliceRow(case['name'], case['patient'], entry['slice'], entry['liver_mm2'], entry['tumor_mm2'])
                for case in self.manifest['cases']
                for entry in case['slices']
            ]
            self.contents = {case['name']: str(case['content_sha256']) for case in self.manifest['cases']}
            self.tumor_mm3 = {
                case['name']: float(sum(entry['tumor_mm2'] for entry in case['slices']) * case['spacing_mm'][0])
                for case in self.manifest['cases']
            }
            side = self.manifest['settings']['image_size']
            self.look_alikes = tuple((one, other, float(alike)) for one, other, alike in self.manifest['look_alikes'])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f'{path}: a damaged slice store ({type(error).__name__}: {error}); '
                'delete the folder and prepare it again'
            ) from error
        for name, array in self._arrays.items():
            if array.shape != (len(self.rows), side, side) or array.dtype != np.uint8:
                raise UserError(
                    f'{path / name}.npy: {array.dtype} {array.shape}; expected uint8 {(len(self.rows), side, side)}; '
                    'delete the folder and prepare it again'
                )

    def __len__(self) -> int:
        """Number of slices."""
        return len(self.rows)

    @property
    def digest(self) -> str:
        """Hash of settings, cases and source files; when those were written does not matter."""
        content = json.dumps(_undated([self.manifest['settings'], self.manifest['cases']]), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    def images(self, rows: np.ndarray, buffers: Buffers | None = None) -> np.ndarray:
        """Images uint8 [len(rows), side, side], in memory of `buffers` if given; 0..255 is the HU window."""
        return self._take('images', rows, buffers)

    def masks(self, rows: np.ndarray, target: str, buffers: Buffers | None = None) -> np.ndarray:
        """Masks uint8 [len(rows), side, side], 255 inside: 'tumor', 'liver' (without tumour) or 'liver_or_tumor'."""
        if target == 'tumor':
            return self._take('tumor', rows, buffers)
        whole = self._take('liver', rows, buffers)
        if target == 'liver_or_tumor':
            return whole
        tumor = self._take('tumor', rows, buffers)
        np.minimum(whole, tumor, out=tumor)
        return np.subtract(whole, tumor, out=whole)

    def _take(self, name: str, rows: np.ndarray, buffers: Buffers | None) -> np.ndarray:
        array = self._arrays[name]
        if not buffers:
            return array[rows]
        shape = len(rows), *array.shape[1:]
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(array):
            raise IndexError(f'rows {rows.min()} to {rows.max()} of a store of {len(array)} slices')
        # 'clip' clips nothing now: with its own checks, numpy would first gather into memory of its own.
        return np.take(array, rows, axis=0, out=buffers.take(shape), mode='clip')


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of the store at `path`; raises UserError when there is none of this version."""
    file = path / 'manifest.json'
    if not file.exists():
        raise UserError(
            f'{path}: no slice store there; make it with `liver-jax prepare` from the volumes in data.raw '
            '(--config.data.raw=PATH), or set data.store'
        )
    try:
        manifest: dict[str, Any] = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f'{file}: cannot be read ({error}); delete the folder and prepare it again') from error
    found = manifest.get('format') if isinstance(manifest, dict) else None
    if found != FORMAT:
        raise UserError(f'{file}: format {found!r}; expected {FORMAT}; delete the folder and prepare again')
    return manifest


def write_store(
    path: Path,
    settings: dict[str, Any],
    patients: str,
    look_alikes: Sequence[tuple[str, str, float]],
    cases: Sequence[dict[str, Any]],
    parts: Sequence[Path],
    working: Path,
) -> None:
    """Join the prepared cases in `parts` (see `write_part`) into the store at `path`, atomically.

    `cases` are their manifest entries, `patients` says where their patients come from, `look_alikes` is as in
    `SliceStore`, `working` is a folder on the same disk for the unfinished store.
    """
    total, side = sum(len(case['slices']) for case in cases), settings['image_size']
    unfinished = working / '.store'  # no case has such a name
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    for name in _ARRAYS:
        blocks = (np.load(part / f'{name}.npy') for part in parts)
        _write_array(unfinished / f'{name}.npy', (total, side, side), blocks)
    manifest = {
        'format': FORMAT,
        'settings': settings,
        'patients': patients,
        'look_alikes': list(look_alikes),
        'slices': total,
        'cases': list(cases),
    }
    (unfinished / 'manifest.json').write_text(_readable(manifest))
    path.parent.mkdir(parents=True, exist_ok=True)
    os.rename(unfinished, path)


def write_part(
    part: Path,
    arrays: dict[str, np.ndarray],
    case: dict[str, Any],
    settings: dict[str, Any],
    signature: np.ndarray | None,
) -> None:
    """Write one prepared case as the folder `part`, atomically: arrays by name, manifest entry, settings, signature."""
    unfinished = part.with_name(f'.{part.name}.{os.getpid()}')
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        for name in _ARRAYS:
            _write_array(unfinished / f'{name}.npy', arrays[name].shape, [arrays[name]])
        if signature is not None:
            _write_array(unfinished / _SIGNATURE, signature.shape, [signature])
        (unfinished / 'case.json').write_text(json.dumps({'settings': settings, 'case': case}))
        shutil.rmtree(part, ignore_errors=True)
        os.rename(unfinished, part)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def read_part(part: Path) -> dict[str, Any]:
    """The `settings` and the manifest entry `case` of a prepared case; both empty where there is no whole one."""
    try:
        entry: dict[str, Any] = json.loads((part / 'case.json').read_text())
    except (OSError, ValueError):
        return {'settings': {}, 'case': {}}
    whole = all((part / f'{name}.npy').exists() for name in _ARRAYS)  # deleting it may have been broken off
    return entry if whole else {'settings': {}, 'case': {}}


def read_signature(part: Path) -> np.ndarray | None:
    """The signature of a prepared case; None where it has none."""
    file = part / _SIGNATURE
    return np.load(file) if file.exists() else None


def _write_array(path: Path, shape: tuple[int, ...], blocks: Iterable[np.ndarray]) -> None:
    """Like np.save, but block by block; plain writes, for on a full disk a memory map dies without an exception."""
    with open(path, 'wb') as file:
        for number, block in enumerate(blocks):
            if not number:
                header = {'descr': block.dtype.str, 'fortran_order': False, 'shape': shape}
                np.lib.format.write_array_header_1_0(file, header)
            file.write(block.tobytes())


def _undated(values: Any) -> Any:
    if isinstance(values, dict):
        return {key: _undated(value) for key, value in values.items() if key != 'modified_ns'}
    return [_undated(value) for value in values] if isinstance(values, list) else values


def _readable(manifest: dict[str, Any]) -> str:
    """JSON with one line per slice and per list of numbers."""
    slices: list[str] = []

    def pull(case: dict[str, Any]) -> dict[str, Any]:
        slices.append(',\n        '.join(json.dumps(entry) for entry in case['slices']))
        return {**case, 'slices': f'<{len(slices) - 1}>'}

    text = json.dumps({**manifest, 'cases': [pull(case) for case in manifest['cases']]}, indent=2)
    text = re.sub(r'\[\n([-+.\de,\s]+)\n\s*\]', lambda numbers: f'[{" ".join(numbers[1].split())}]', text)
    for number, lines in enumerate(slices):
        inside = f'[\n        {lines}\n      ]' if lines else '[]'
        text = text.replace(f'"slices": "<{number}>"', f'"slices": {inside}', 1)
    return text + '\n'
