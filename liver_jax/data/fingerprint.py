"""What a case's files are, quick to compare: numbers, sizes, dates, and hashes where dates differ."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from liver_jax.data.layouts import Case


def fingerprint(paths: Sequence[Path]) -> dict[str, Any]:
    """Of the image or the label files of a case, for the manifest."""
    return {'name': paths[0].name, **_dated(paths), 'sha256': _sha256(paths)}


def is_from(entry: dict[str, Any], case: Case) -> bool:
    """Whether the manifest's entry is of this case; files of another date than then are hashed again."""
    for found, paths in ((entry['image'], case.images), (entry['label'], case.labels)):
        here = _dated(paths)
        if (found['files'], found['bytes']) != (here['files'], here['bytes']):
            return False
        if found['modified_ns'] != here['modified_ns'] and found['sha256'] != _sha256(paths):
            return False
    return True


def _dated(paths: Sequence[Path]) -> dict[str, int]:
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
