"""Files that are always whole, and folders that one process at a time may write."""

import contextlib
import fcntl
import logging
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from liver_jax.errors import UserError

log = logging.getLogger(__name__)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write `content` so that `path` is always either the old or the new whole, also after a loss of power."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + '.partial')
    with open(partial, 'wb') as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


class Appended:
    """A file that grows by whole records. What a full disk refuses waits in memory until there is room."""

    def __init__(self, path: Path) -> None:
        """Open or make the file."""
        self._path, self._waiting, self._full = path, b'', False
        self._file = open(path, 'ab', buffering=0)  # noqa: SIM115 (closed by `close`)

    def write(self, record: bytes) -> None:
        """Append a record, after those that wait; it is with the system then and outlives this process."""
        self._waiting += record
        size = os.fstat(self._file.fileno()).st_size
        try:
            written = 0
            while written < len(self._waiting):
                written += self._file.write(self._waiting[written:])
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file.fileno(), size)  # no half records
            if not self._full:
                log.warning('%s: %s; what is to be written there waits', self._path, error.strerror)
            self._full = True
        else:
            self._waiting, self._full = b'', False

    def close(self) -> None:
        """Close the file, after a last try to write what waits."""
        self.write(b'')
        self._file.close()


def check_writable(folder: Path) -> None:
    """Make `folder` where it is missing; raises UserError where nothing can be written in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _cannot_write(folder, error) from error


@contextmanager
def locked(folder: Path, shared: bool = False) -> Iterator[None]:
    """Hold `folder` (made if missing) for this process, by an advisory lock that ends with the process.

    Several may hold it `shared` at once, but not beside one that does not share.

    Raises:
        UserError: another process holds it, which is named; or nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / '.lock', 'a+')  # noqa: SIM115 (closed below)
    except OSError as error:
        raise _cannot_write(folder, error) from error
    with file:
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


def _cannot_write(folder: Path, error: OSError) -> UserError:
    return UserError(f'{folder}: cannot write there ({error.strerror}); expected a folder to write to')
