"""The files below a folder: nothing outside of it, nothing hidden, nothing that may not be read."""

import os
from collections.abc import Iterator
from pathlib import Path

from liver_jax.errors import UserError

ARCHIVES = ('.zip', '.tar', '.tgz', '.tar.gz', '.tar.bz2', '.tar.xz', '.7z', '.rar')


def files_below(root: Path, flag: str = '') -> Iterator[Path]:
    """All files below `root`, sorted folder by folder. Hidden ones (`._*` of macOS) are passed over.

    Links are followed, each folder once; a link that leads nowhere is given like a file. With the `flag` that named
    `root`, links to single files may lead out of it: only data.raw, which may be what others have packed, must not
    reach what the packer could not.

    Raises:
        UserError: a folder that may not be read, a link that leads out of `root`.
    """
    home, seen = os.path.realpath(root), set()
    for folder, folders, names in os.walk(root, followlinks=True, onerror=_refuse):
        folders[:] = sorted(name for name in folders if not name.startswith(('.', '__MACOSX')))
        names = sorted(name for name in names if not name.startswith('.'))
        for name in (*folders, *names):
            if not (flag and os.path.isfile(Path(folder, name))):
                _check_link(Path(folder, name), home, flag or 'data.raw')
        real = os.path.realpath(folder)
        if real in seen:  # links that lead back
            folders.clear()
            continue
        seen.add(real)
        yield from (Path(folder, name) for name in names)


def check_readable(path: Path) -> None:
    """Refuse what is no file that may be read, before anything is read."""
    if not path.is_file():
        raise UserError(f'{path}: not a file, perhaps a link that leads nowhere; expected an image or a mask')
    if not os.access(path, os.R_OK):
        raise UserError(f'{path}: cannot be read (Permission denied); expected a file that you may read, chmod it')


def is_archive(path: Path) -> bool:
    """By its name alone."""
    return path.name.lower().endswith(ARCHIVES)


def _refuse(error: OSError) -> None:
    raise UserError(
        f'{error.filename}: cannot be read ({error.strerror}); expected a folder that you may read'
    ) from error


def _check_link(path: Path, home: str, named: str) -> None:
    if path.is_symlink():
        target = os.path.realpath(path)
        if os.path.commonpath((home, target)) != home:
            raise UserError(
                f'{path}: leads out of the folder, to {target}; expected everything inside, copy the volumes in or set '
                f'{named} to the folder they are in'
            )
