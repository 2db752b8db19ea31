"""What a case's files are, quick to compare: numbers, sizes, dates, and hashes where dates differ."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from liver_jax.data.layouts import Case


def fingerprint(paths: Sequence[Path]) -> dict[str, Any]:
    """Of the image or the label files of a case, for the manifest."""
    return {'name': paths[0].name, **dated(paths), 'sha256': _sha256(paths)}


def is_from(entry: dict[str, Any], case: Case) -> bool:
    """Whether the manifest's entry is of this case; files of another date than then are hashed again."""
    for found, paths in ((entry['image'], case.images), (entry['label'], case.labels)):
        here = dated(paths)
        if (found['files'], found['bytes']) != (here['files'], here['bytes']):
            return False
        if found['modified_ns'] != here['modified_ns'] and found['sha256'] != _sha256(paths):
            return False
    return True


class VoxelHash:
    """SHA-256 of a scan's voxels in the canonical frame: the same for a copy that was compressed, turned or renamed."""

    def __init__(self, size: tuple[int, int, int]) -> None:
        """For a scan of `size` (slices, rows, columns)."""
        self._size = size
        self._planes: dict[int, bytes] = {}

    def add(self, index: int, plane: np.ndarray) -> None:
        """A plane [rows, columns] of labels, or of HU by `whole_hu`; in any order."""
        self._planes[index] = hashlib.sha256(plane.tobytes()).digest()

    def finish(self) -> str:
        """The hash, once all planes were added."""
        digest = hashlib.sha256(repr(self._size).encode())
        for index in sorted(self._planes):
            digest.update(self._planes[index])
        return digest.hexdigest()


def whole_hu(hu: np.ndarray) -> np.ndarray:
    """HU of whatever type as int16, little-endian."""
    return np.clip(np.rint(hu) if hu.dtype.kind == 'f' else hu, -32768, 32767).astype('<i2')


def dated(paths: Sequence[Path]) -> dict[str, int]:
    """Number of files, their bytes, and when the last was written: what is quick to compare."""
    stats = [path.stat() for path in paths]
    return {
        'files': len(stats),
        'bytes': sum(stat.st_size for stat in stats),
        'modified_ns': max((stat.st_mtime_ns for stat in stats), default=0),
    }


def _sha256(paths: Sequence[Path]) -> str:
    """Hash of a file; of several, the hash of their hashes in the order of their names."""
    digests = []
    for path in sorted(paths):
        with open(path, 'rb') as file:
            digests.append(hashlib.file_digest(file, 'sha256'))
    return (
        digests[0].hexdigest()
        if len(digests) == 1
        else hashlib.sha256(b''.join(d.digest() for d in digests)).hexdigest()
    )
