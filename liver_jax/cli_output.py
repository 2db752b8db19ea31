"""Results for people on the terminal and for programs as JSON."""

from pathlib import Path
from typing import Any

from liver_jax.errors import UserError
from liver_jax.files import write_atomically
from liver_jax.runtime.run_folder import json_text

TERMINAL = '-'


def check_json(value: str) -> None:
    """Refuse, before hours of work, a --json that cannot be written; '' is none, '-' the terminal."""
    path = Path(value).expanduser()
    if value in ('', TERMINAL):
        return
    if path.is_dir() or not path.parent.is_dir():
        what = 'a folder' if path.is_dir() else f'{path.parent} is no folder'
        raise UserError(f'--json={value}: {what}; expected the name of a file in a folder that is there')


def give(value: str, results: Any, text: str) -> None:
    """Print the text, and write the results to the file that --json names; to the terminal they go alone."""
    print(json_text(results) if value == TERMINAL else text)
    if value not in ('', TERMINAL):
        write_atomically(Path(value).expanduser(), json_text(results) + '\n')
        print(f'written: {value}')
