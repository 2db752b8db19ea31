"""Which prediction is scored against which reference: files of two folders joined by the number in their names."""

import dataclasses
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from liver_jax.data.folder import files_below
from liver_jax.data.layouts import KAGGLE
from liver_jax.errors import UserError

ENDINGS = ('.nii', '.nii.gz')


@dataclasses.dataclass(frozen=True)
class Pair:
    """A prediction and its reference; the scan that lies beside the reference, and probabilities, where there are."""

    prediction: Path
    reference: Path
    scan: Path | None = None
    probabilities: Path | None = None

    @property
    def name(self) -> str:
        """The reference's name without ending."""
        return stem(self.reference)


def find_pairs(
    prediction: Path, reference: Path, probabilities: Path | None = None
) -> tuple[list[Pair], list[dict[str, Any]]]:
    """Pairs in the order of their numbers, and an entry (`failure`) for each file that has no one partner.

    `prediction` and `reference` are folders, at any depth of which files lie, or two files, which are one pair.

    Raises:
        UserError: nothing there, or a file beside a folder.
    """
    given = {'--prediction': prediction, '--reference': reference}
    if probabilities:
        given['--probabilities'] = probabilities
    files = [flag for flag, path in given.items() if path.is_file()]
    if files and len(files) < len(given):
        raise UserError(
            f'{files[0]}={given[files[0]]}: is a file; expected a folder, or files for all of {", ".join(given)}'
        )
    if files:
        return [Pair(prediction, reference, None, probabilities)], []
    if probabilities and (probabilities / 'probabilities').is_dir():  # what `liver-jax predict` was given as --output
        given['--probabilities'] = probabilities / 'probabilities'
    found = {flag: _numbered(path, flag) for flag, path in given.items()}
    scans, references = _without_scans(found['--reference'])
    predictions = _without_scans(found['--prediction'])[1]
    pairs, failed = _join(predictions, references)
    others = found.get('--probabilities', {})
    for number in pairs:
        if len(others.get(number, [])) > 1:
            first, second, *_ = others[number]
            raise UserError(f'{second}: number {number} is also that of {first}; expected each number once, remove one')
    return [
        dataclasses.replace(
            pair,
            scan=next(iter(scans.get(number, [])), None),
            probabilities=next(iter(others.get(number, [])), None),
        )
        for number, pair in pairs.items()
    ], failed


def failure(name: str, paths: Sequence[Path], reason: str) -> dict[str, Any]:
    """The entry of a case that cannot be scored."""
    return {'case': plain(name), 'files': [plain(path.name) for path in paths], 'reason': plain(reason)}


def plain(text: str) -> str:
    """Text for one line: file names may hold line breaks and commands to the terminal."""
    return ''.join(letter if letter.isprintable() else '?' for letter in text)


def stem(path: Path) -> str:
    """The name of a NIfTI file without its ending."""
    return path.name.removesuffix('.gz').removesuffix('.nii')


_Numbered = dict[int | str, list[Path]]


def _numbered(folder: Path, flag: str) -> _Numbered:
    """The NIfTI files below a folder by the last whole number in their names, or by name where there is none."""
    if not folder.is_dir():
        raise UserError(f'{flag}={folder}: no such folder; expected one with NIfTI segmentations')
    there = files_below(folder, flag)
    files = [path for path in there if path.name.endswith(ENDINGS) and not _is_probability(path, folder)]
    if not files:
        raise UserError(
            f'{flag}={folder}: no .nii or .nii.gz file in it; expected segmentations such as segmentation-0.nii'
        )
    found: _Numbered = defaultdict(list)
    for path in files:
        numbers = re.findall(r'\d+', stem(path))
        found[int(numbers[-1]) if numbers else path.name].append(path)
    return found


def _is_probability(path: Path, given: Path) -> bool:
    """Whether it lies where `liver-jax predict` writes probabilities, in a folder that was not named itself."""
    own = path.parent
    return own != given and own.name == 'probabilities' and (own.parent / 'manifest.json').is_file()


def _without_scans(found: _Numbered) -> tuple[_Numbered, _Numbered]:
    """CT volumes that lie beside segmentations of their number, as in LiTS as downloaded; and what is left."""
    scans: _Numbered = {}
    kept: _Numbered = {}
    for number, paths in found.items():
        masks = [path for path in paths if not KAGGLE[0].fullmatch(path.name)]
        kept[number] = masks or paths
        scans[number] = [path for path in paths if path not in kept[number]]
    return scans, kept


def _join(predictions: _Numbered, references: _Numbered) -> tuple[dict[int | str, Pair], list[dict[str, Any]]]:
    pairs: dict[int | str, Pair] = {}
    failed = []
    for number in sorted({*predictions, *references}, key=lambda key: (isinstance(key, str), key)):
        mine, theirs = predictions.get(number, []), references.get(number, [])
        if isinstance(number, str):
            reason = f'{(mine + theirs)[0]}: no number in its name; expected one to join it by, such as case-7.nii.gz'
        elif len(mine) > 1 or len(theirs) > 1:
            first, second, *_ = mine if len(mine) > 1 else theirs
            reason = f'{second}: number {number} is also that of {first}; expected each number once, remove one'
        elif not theirs:
            reason = f'{mine[0]}: no reference with the number {number}; add it or move the prediction away'
        elif not mine:
            reason = f'{theirs[0]}: no prediction with the number {number}; add it or move the reference away'
        else:
            pairs[number] = Pair(mine[0], theirs[0])
            continue
        failed.append(failure(str(number), [*mine, *theirs], reason))
    return pairs, failed
