"""Files that are always whole, and folders that one process at a time may write."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from liver_jax.errors import UserError


def write_atomically(path: Path, text: str) -> None:
    """Write `text` so that `path` is always either the old or the new whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + '.partial')
    partial.write_text(text)
    os.replace(partial, path)


@contextmanager
def locked(folder: Path, shared: bool = False) -> Iterator[None]:
    """Hold `folder` (made if missing) for this process, by an advisory lock that ends with the process.

    Several may hold it `shared` at once, but not beside one that does not share.

    Raises:
        UserError: another process holds it; names its process number.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / '.lock', 'a+') as file:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise UserError(
                f'{folder}: process {file.read() or "unknown"} is working there; wait for it or use another folder'
            ) from error
        file.truncate(0)
        file.write(f'{os.getpid()} on {socket.gethostname()}')
        file.flush()
        yield
