"""`liver-jax COMMAND`: help, logging, errors, one call."""

import logging
import shutil
import sys
import textwrap
from typing import NoReturn

from liver_jax import __version__
from liver_jax.cli_flags import parse_flags, show_help
from liver_jax.commands import COMMANDS
from liver_jax.config_fields import unknown_name
from liver_jax.errors import UserError
from liver_jax.runtime.interrupt import RESUME_CODE, Interrupted


def main() -> NoReturn:
    """Run a command. Exit codes: 0 done, 2 the user's to mend, 75 interrupted and saved (the same command goes on)."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors='replace')  # type: ignore[union-attr]  # a terminal may know only ASCII
    logging.basicConfig(level=logging.WARNING, format='%(message)s', stream=sys.stderr)
    logging.getLogger('liver_jax').setLevel(logging.INFO)
    try:
        sys.exit(_main(sys.argv[1:]))
    except UserError as error:
        print(f'liver-jax: {error}', file=sys.stderr)
        sys.exit(2)
    except Interrupted as error:
        print(f'liver-jax: {error}; the same command goes on', file=sys.stderr)
        sys.exit(RESUME_CODE)
    except OSError as error:
        print(f'liver-jax: {error.filename or "files"}: {error.strerror or error}', file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print('liver-jax: interrupted', file=sys.stderr)
        sys.exit(130)


def _main(arguments: list[str]) -> int:
    if arguments[:1] == ['--version']:
        print(__version__)
        return 0
    if arguments[:1] == ['help'] and len(arguments) > 1:
        arguments = [arguments[1], '--help']
    if not arguments or arguments[0] in ('--help', '-h', 'help'):
        print('usage: liver-jax COMMAND --flag=value …      (liver-jax COMMAND --help shows its flags)\n')
        width = max(40, min(100, shutil.get_terminal_size().columns))
        for name, command in COMMANDS.items():
            print(textwrap.fill(command.help, width, initial_indent=f'  {name:<10} ', subsequent_indent=' ' * 13))
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        raise UserError(unknown_name('command', name, COMMANDS))
    if {'--help', '-h', '-help', '--helpfull'} & set(rest):
        show_help(name, COMMANDS[name])
        return 0
    COMMANDS[name].run(parse_flags(name, COMMANDS[name], rest))
    return 0
