"""`liver-jax COMMAND`: help, logging, errors, one call."""

import logging
import os
import shutil
import sys
import textwrap
import traceback
from typing import NoReturn

from liver_jax import __version__
from liver_jax.cli_flags import parse_flags, show_help
from liver_jax.commands import COMMANDS
from liver_jax.config_fields import unknown_name
from liver_jax.errors import UserError
from liver_jax.runtime.distributed import end_together, is_first, place
from liver_jax.runtime.interrupt import RESUME_CODE, Ended, Interrupted, usual_signals, watch_signals


def main() -> NoReturn:
    """Run a command. Exit codes: 0 done, or done for now (the stop file, train.max_hours); 2 the user's to mend; 75
    interrupted and saved, the same command goes on.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors='replace')  # type: ignore[union-attr]  # a terminal may know only ASCII
    logging.basicConfig(level=logging.WARNING, format='%(message)s', stream=sys.stderr)
    logging.getLogger('liver_jax').setLevel(logging.INFO)
    for name in ('absl', 'asyncio'):  # orbax logs pages of what it raises and we tell in a line
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        sys.exit(_main(sys.argv[1:]))
    except UserError as error:
        _end(2, f'liver-jax: {error}')
    except Interrupted as error:
        _end(RESUME_CODE, f'liver-jax: {error}; the same command goes on')
    except Ended as error:
        _end(0, f'liver-jax: {error}; the same command goes on')
    except BrokenPipeError:  # of `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        where = f'{error.filename}: ' if error.filename else ''
        _end(2, f'liver-jax: {where}{error.strerror or error}')
    except KeyboardInterrupt:
        _end(130, 'liver-jax: interrupted')
    except Exception:
        if place()[1] == 1:
            raise
        _end(1, traceback.format_exc())


def _end(code: int, words: str) -> NoReturn:
    """Say why, and exit. Of several processes that end together the first one says it; one that ends alone does not
    wait for the others, which would wait for it.
    """
    together = end_together('error')
    if is_first() or not together:
        print(words, file=sys.stderr, flush=True)
    if not together:
        sys.stdout.flush()
        os._exit(code)
    sys.exit(code)


def _main(arguments: list[str]) -> int:
    if arguments[:1] == ['--version']:
        print(__version__)
        return 0
    if arguments[:1] == ['help'] and len(arguments) > 1:
        arguments = [*arguments[1:], '--help']
    if not arguments or arguments[0] in ('--help', '-h', 'help'):
        _show_commands()
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        raise UserError(unknown_name('command', name, COMMANDS))
    if {'--help', '-h', '-help', '--helpfull'} & set(rest):
        show_help(name, COMMANDS[name])
        return 0
    values = parse_flags(name, COMMANDS[name], rest)
    if COMMANDS[name].resumes:
        with watch_signals():
            COMMANDS[name].run(values)
    else:
        usual_signals()
        COMMANDS[name].run(values)
    return 0


def _show_commands() -> None:
    print('usage: liver-jax COMMAND --flag=value …      (liver-jax COMMAND --help shows its flags)\n')
    width = max(40, min(100, shutil.get_terminal_size().columns))
    for name, command in COMMANDS.items():
        print(textwrap.fill(command.help, width, initial_indent=f'  {name:<10} ', subsequent_indent=' ' * 13))
