"""The machinery behind `config`: dicts -> frozen dataclasses by their types, and errors that name the field."""

import dataclasses
import difflib
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from liver_jax.errors import UserError


def check(name: str, found: Any, allowed: bool, expected: str) -> None:
    """Raise UserError, naming the config field, unless `allowed`."""
    if not allowed:
        raise UserError(f'config field {name} is {found!r}; expected {expected}')


def unknown_name(what: str, name: str, known: typing.Iterable[str]) -> str:
    """The error line for a name that is not among the known ones, with the nearest of them."""
    known = list(known)
    group, _, last = name.rpartition('.')
    nearby = [each for each in known if each.rpartition('.')[0] == group]
    lasts = {each.rpartition('.')[2]: each for each in nearby or known}
    near = [each for each in known if last in _spellings(each)] or [
        lasts[each] for each in difflib.get_close_matches(last, lasts, 1)
    ]
    if not nearby:
        near = difflib.get_close_matches(name, known, 1) or near
    hint = f'did you mean {near[0]!r}?' if near else f'known: {", ".join(nearby or known)}'
    return f'{what} {name!r} is not known; {hint}'


def absolute(name: str, path: str) -> str:
    """The path of a config field as an absolute one; an empty one stays empty."""
    try:
        return str(Path(path).expanduser().absolute()) if path else ''
    except RuntimeError as error:  # ~nobody
        raise UserError(f'config field {name} is {path!r}; expected a path ({error})') from error


def names_of(part: str, kind: Any) -> list[str]:
    """The name of a field and, where it is a group, of those in it."""
    inside = typing.get_type_hints(kind) if dataclasses.is_dataclass(kind) else {}
    return [part, *(f'{part}.{name}' for name in inside)]


def flat(values: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
    """Nested dicts as one, with names such as `optim.learning_rate`."""
    result: dict[str, Any] = {}
    for name, value in values.items():
        result.update(flat(value, f'{prefix}{name}.') if isinstance(value, Mapping) else {prefix + name: value})
    return result


def build(cls: Any, values: Mapping[str, Any], known: list[str], prefix: str = '') -> Any:
    """A dataclass (and those in it) from a nested dict, types checked; `known` are all names there are, for hints."""
    check(prefix.rstrip('.') or 'config', values, isinstance(values, Mapping), 'a group of fields')
    types = typing.get_type_hints(cls)
    for name in values:
        if name not in types:
            raise UserError(unknown_name('config field', prefix + name, known))
    missing = [prefix + name for name in types if name not in values]
    if missing:
        raise UserError(f'config: missing {", ".join(missing)}; start from configs/default.py, which has every field')
    return cls(**{name: _convert(kind, values[name], known, prefix + name) for name, kind in types.items()})


def _convert(kind: Any, value: Any, known: list[str], name: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return build(kind, value, known, name + '.')
    if typing.get_origin(kind) is Literal:
        choices = typing.get_args(kind)
        check(name, value, value in choices, f'one of {", ".join(map(repr, choices))}')
        return value
    if typing.get_origin(kind) is tuple:
        parts = typing.get_args(kind)
        fits = isinstance(value, (tuple, list)) and len(value) == len(parts)
        check(name, value, fits, f'{len(parts)} numbers')
        return tuple(_convert(part, item, known, name) for part, item in zip(parts, value, strict=True))
    if kind is float:
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < float('inf')
        check(name, value, number, 'a finite number')
        return float(value)
    fits = isinstance(value, kind) and not (kind is int and isinstance(value, bool))
    check(name, value, fits, {int: 'a whole number', str: 'a text', bool: 'True or False'}[kind])
    return value


def _spellings(name: str) -> tuple[str, str]:
    """What a field is called in other houses: the word without its group, its initials (`lr`)."""
    last = name.rpartition('.')[2]
    return last, ''.join(word[:1] for word in last.split('_'))
