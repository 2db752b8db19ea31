"""Flags of one command: parsing with absl and ml_collections, errors in one line, help."""

import dataclasses
import shutil
import sys
import textwrap
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from absl import flags
from absl.flags import FlagValues
from ml_collections import ConfigDict, config_flags

from liver_jax.config import Config, config_from, field_names
from liver_jax.config_fields import unknown_name
from liver_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Flag:
    """One flag: without a default it is required; a whole number, or False, as default makes it one.

    `bare` is what `--flag` without a value means.
    """

    help: str
    default: str | int | None = None
    choices: tuple[str, ...] = ()
    bare: str = ''


@dataclasses.dataclass(frozen=True)
class Command:
    """A command: a line of help, its flags by name, what it runs, the flag whose value may stand as a plain word.

    One that `resumes` may be stopped by SIGINT or SIGTERM and started again: it goes on, or begins anew.
    """

    help: str
    flags: dict[str, Flag]
    run: Callable[[FlagValues], None]
    word: str = ''
    resumes: bool = False


WORKDIR = Flag('the run folder, such as runs/first')


def parse_flags(name: str, command: Command, arguments: list[str]) -> FlagValues:
    """The values of a command's flags.

    Raises:
        UserError: an unknown flag or config field, a bad value, a missing flag, a stray word.
    """
    arguments = _spelt_out(command, arguments)
    values = FlagValues()
    for flag, spec in command.flags.items():
        if flag == 'config':
            config_flags.DEFINE_config_file(flag, None, spec.help, values, sys_argv=['', *arguments])
        elif isinstance(spec.default, bool):
            flags.DEFINE_boolean(flag, spec.default, spec.help, flag_values=values)
        elif isinstance(spec.default, int):
            flags.DEFINE_integer(flag, spec.default, spec.help, lower_bound=0, flag_values=values)
        elif spec.choices:
            flags.DEFINE_enum(flag, str(spec.default), spec.choices, spec.help, flag_values=values)
        else:
            flags.DEFINE_string(flag, spec.default, spec.help, flag_values=values)
    paths = _config_paths(arguments) if 'config' in command.flags else []
    for path in paths:
        if not path.is_file():
            raise UserError(f'--config={path}: no such file; expected a config such as configs/default.py')
        # Configs say `from configs import default`: the folder above theirs must be importable, or this project's.
        sys.path += [str(path.absolute().parent.parent), str(Path(__file__).parent.parent)]
    try:
        rest = values(['', *arguments])[1:]
        loaded = values.config if paths else None  # a file that did not load says so only when it is read
    except flags.UnrecognizedFlagError as error:
        if 'config' in command.flags and error.flagname.startswith('config.'):  # an override of nothing
            raise _missing('config', command) from error
        raise UserError(unknown_name('flag', f'--{error.flagname}', [f'--{flag}' for flag in command.flags])) from error
    except flags.Error as error:
        raise UserError(f'{_last_line(error)}; see liver-jax {name} --help') from error
    except UserError:  # a config file's own word, such as an augmentation that it does not know
        raise
    except Exception as error:  # whatever the code of a config file may raise
        raise UserError(_config_error(paths, arguments, error)) from error
    if paths and not isinstance(loaded, ConfigDict):
        raise UserError(f'--config={paths[-1]}: get_config() gives no ConfigDict; see configs/default.py')
    if rest:
        raise UserError(f'{rest[0]!r} is not a flag; expected --flag=value, see liver-jax {name} --help')
    for flag, spec in command.flags.items():
        given = paths if flag == 'config' else values[flag].value
        if spec.default is None and given in (None, '', []):
            raise _missing(flag, command)
    return values


def _spelt_out(command: Command, arguments: list[str]) -> list[str]:
    """The arguments with --flag=value for all that may be said shorter."""
    bare = {f'--{flag}': f'--{flag}={spec.bare}' for flag, spec in command.flags.items() if spec.bare}
    arguments = [bare.get(argument, argument) for argument in arguments]
    words = [number for number, argument in enumerate(arguments) if not argument.startswith('-')]
    if command.word and words:
        arguments[words[0]] = f'--{command.word}={arguments[words[0]]}'
    config = command.flags.get('config')
    if config and config.default and not _config_paths(arguments):
        arguments = [f'--config={config.default}', *arguments]
    return arguments


def config_of(values: FlagValues) -> Config:
    """The checked config of the flag --config."""
    return config_from(values.config.to_dict())


def path_of(text: str) -> Path:
    """The path that a flag's value means."""
    return Path(text).expanduser()


def start_jax(deterministic: bool = False, together: bool = False, batch_sizes: Sequence[int] = ()) -> None:
    """Before a command uses JAX: keep compiled programs and freed memory, on request compute the same bits each time.

    With `together` the processes of a job, where it has several, do it as one. One alone that trains with these batch
    sizes does it on all cores of a CPU.
    """
    from liver_jax.runtime import compile_cache, cores, determinism, distributed, memory

    memory.keep_freed_memory()
    compile_cache.use_compile_cache()
    if deterministic:
        determinism.request_determinism()
    if together:
        distributed.initialise()
    if batch_sizes and distributed.place()[1] == 1:
        cores.use_cores(batch_sizes)


def show_help(name: str, command: Command) -> None:
    """Print what a command does and its flags."""
    width = max(40, min(100, shutil.get_terminal_size().columns))
    usage = [
        (flag.upper() if spec.default is None else f'[{flag.upper()}]') if flag == command.word else
        f'--{flag}=…' if spec.default is None else
        f'[--{flag}]' if spec.default is False else f'[--{flag}[=…]]' if spec.bare else f'[--{flag}=…]'
        for flag, spec in command.flags.items()
    ]  # fmt: skip
    print(textwrap.fill(f'usage: liver-jax {name} {" ".join(usage)}', width, subsequent_indent='    '))
    print(textwrap.fill(command.help, width) + '\n')
    pad = max(11, *map(len, command.flags))
    for flag, spec in command.flags.items():
        default = '' if spec.default in (None, '') or spec.default is False else f' (default: {spec.default})'
        print(
            textwrap.fill(
                spec.help + default, width, initial_indent=f'  --{flag:<{pad}} ', subsequent_indent=' ' * (pad + 5)
            )
        )


def _missing(flag: str, command: Command) -> UserError:
    return UserError(f'--{flag} is missing; expected {command.flags[flag].help}')


def _config_paths(arguments: list[str]) -> list[Path]:
    paths = []
    for argument, following in zip(arguments, [*arguments[1:], ''], strict=False):
        name, equals, value = argument.lstrip('-').partition('=')
        path = (value if equals else following).partition(':')[0]
        if name == 'config' and argument.startswith('-') and path:
            paths.append(Path(path))
    return paths


def _config_error(paths: list[Path], arguments: list[str], error: Exception) -> str:
    for argument in arguments:
        field = argument.lstrip('-').partition('=')[0].removeprefix('config.')
        if argument.lstrip('-').startswith('config.') and field not in field_names():
            return unknown_name('config field', field, field_names())
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f', line {frame.lineno}' for frame in frames if Path(frame.filename) in paths]
    where = f'--config={"".join(map(str, paths[-1:]))}{"".join(lines[-1:])}'
    return f'{where}: {type(error).__name__}: {_last_line(error)}; correct the config file or the overrides'


def _last_line(error: BaseException) -> str:
    while error.args and isinstance(error.args[0], BaseException):  # as ml_collections wraps them
        error = error.args[0]
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return (text.strip().splitlines() or [type(error).__name__])[-1].rstrip('.')
