"""Flags of one command: parsing with absl and ml_collections, errors in one line, help."""

import dataclasses
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from liver_jax.config import Config, config_from, field_names, unknown_name
from liver_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Flag:
    """One flag: without a default it is required; a whole number as default makes it one."""

    help: str
    default: str | int | None = None
    choices: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Command:
    """A command: a line of help, its flags by name, what it runs."""

    help: str
    flags: dict[str, Flag]
    run: Callable[[flags.FlagValues], None]


def parse_flags(name: str, command: Command, arguments: list[str]) -> flags.FlagValues:
    """The values of a command's flags.

    Raises:
        UserError: an unknown flag or config field, a bad value, a missing flag, a stray word.
    """
    values = flags.FlagValues()
    for flag, spec in command.flags.items():
        if flag == 'config':
            config_flags.DEFINE_config_file(flag, None, spec.help, values, sys_argv=['', *arguments])
        elif isinstance(spec.default, int):
            flags.DEFINE_integer(flag, spec.default, spec.help, lower_bound=0, flag_values=values)
        elif spec.choices:
            flags.DEFINE_enum(flag, str(spec.default), spec.choices, spec.help, flag_values=values)
        else:
            flags.DEFINE_string(flag, spec.default, spec.help, flag_values=values)
    for path in _config_paths(arguments):
        if not path.is_file():
            raise UserError(f'--config={path}: no such file; expected a config such as configs/default.py')
        # Configs say `from configs import default`: the folder above theirs must be importable.
        sys.path.insert(0, str(path.absolute().parent.parent))
    try:
        rest = values(['', *arguments])[1:]
        if 'config' in command.flags and values.config is not None:
            values.config.to_dict()  # a file that did not load says so only when it is read
    except flags.UnrecognizedFlagError as error:
        raise UserError(unknown_name('flag', f'--{error.flagname}', [f'--{flag}' for flag in command.flags])) from error
    except flags.Error as error:
        raise UserError(f'{_last_line(error)}; see liver-jax {name} --help') from error
    except Exception as error:  # whatever the code of a config file may raise
        raise UserError(_config_error(arguments, error)) from error
    if rest:
        raise UserError(f'{rest[0]!r} is not a flag; expected --flag=value, see liver-jax {name} --help')
    for flag, spec in command.flags.items():
        if spec.default is None and values[flag].value in (None, ''):
            raise UserError(f'--{flag} is missing; expected {spec.help}')
    return values


def config_of(values: flags.FlagValues) -> Config:
    """The checked config of the flag --config."""
    return config_from(values.config.to_dict())


def show_help(name: str, command: Command) -> None:
    """Print what a command does and its flags."""
    width = max(40, min(100, shutil.get_terminal_size().columns))
    usage = [f'--{flag}=…' if spec.default is None else f'[--{flag}=…]' for flag, spec in command.flags.items()]
    print(textwrap.fill(f'usage: liver-jax {name} {" ".join(usage)}', width, subsequent_indent='    '))
    print(textwrap.fill(command.help, width) + '\n')
    for flag, spec in command.flags.items():
        text = spec.help + (f' (default: {spec.default})' if spec.default not in (None, '') else '')
        print(textwrap.fill(text, width, initial_indent=f'  --{flag:<11} ', subsequent_indent=' ' * 16))


def _config_paths(arguments: list[str]) -> Iterator[Path]:
    for argument, following in zip(arguments, [*arguments[1:], ''], strict=True):
        name, equals, value = argument.lstrip('-').partition('=')
        if name == 'config' and argument.startswith('-'):
            yield Path((value if equals else following).partition(':')[0])


def _config_error(arguments: list[str], error: Exception) -> str:
    for path in _config_paths(arguments):
        if not path.is_file():
            raise UserError(f'--config={path}: no such file; expected a config such as configs/default.py')
        if not path.is_file():
            return f'--config={path}: no such file; expected a config such as configs/default.py'
    for argument in arguments:
        field = argument.lstrip('-').partition('=')[0].removeprefix('config.')
        if argument.lstrip('-').startswith('config.') and field not in field_names():
            return unknown_name('config field', field, field_names())
    return f'--config: {_last_line(error)}; correct the config file or the overrides'


def _last_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].rstrip('.')
