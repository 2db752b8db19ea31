"""Slices as pictures, the layout of Kaggle's lits-png: `volume-N_K.png` is slice K of volume N, with two masks.

The masks are `segmentation-N_livermask_K.png` and `segmentation-N_lesionmask_K.png`. Numbers come from the names and
emptiness from the pixels: `lits_df.csv`, which lies beside them, is not read, for its `*_mask_empty` columns are
inverted and its `instance_number` wraps at 256. Pictures carry neither spacing, nor HU, nor orientation; see `NOTES`.
"""

import re
import warnings
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from liver_jax.data.formats.raster import Raster
from liver_jax.errors import UserError

IMAGE = re.compile(r'volume-(\d+)_(\d+)\.png')
MASK = re.compile(r'segmentation-(\d+)_(liver|lesion)mask_(\d+)\.png')
NOTES = (
    'pictures carry no spacing and no HU: areas are in pixels, values are taken as already windowed',
    'pictures carry no orientation: taken as usually shown, row 0 in front, column 0 right, slice 0 lowest',
)
LARGEST_SIDE = 4096  # pixels; beyond, a small file may fill the memory
_LEFT_BACK_UP = np.diag([-1.0, -1.0, 1.0, 1.0])
_UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, MemoryError, Image.DecompressionBombError)


def find_pictures(files: Iterable[Path]) -> dict[int, tuple[tuple[Path, ...], tuple[Path, ...]]]:
    """Per volume its slices and its masks (of the liver and of lesions, slice by slice).

    Raises:
        UserError: a number twice, a slice or one of its masks that is not there.
    """
    found: dict[tuple[int, int], dict[str, Path]] = {}
    for path in files:
        image, mask = IMAGE.fullmatch(path.name), MASK.fullmatch(path.name)
        if image:
            volume, kind, k = image[1], 'image', image[2]
        elif mask:
            volume, kind, k = mask.groups()
        else:
            continue
        parts = found.setdefault((int(volume), int(k)), {})
        if kind in parts:
            raise UserError(f'{path}: also at {parts[kind]}; expected each picture once, remove one')
        parts[kind] = path
    cases = {}
    for volume in sorted({volume for volume, _ in found}):
        numbers = sorted(k for number, k in found if number == volume)
        slices = [found.get((volume, k), {}) for k in range(numbers[0], numbers[-1] + 1)]
        for k, parts in enumerate(slices, start=numbers[0]):
            _check_complete(volume, k, parts, found[volume, numbers[0]])
        masks = [parts[kind] for parts in slices for kind in ('liver', 'lesion')]
        cases[volume] = tuple(parts['image'] for parts in slices), tuple(masks)
    return cases


def read_images(files: Sequence[Path], window: tuple[float, float]) -> Raster:
    """Grey 0 … 255 as the HU between which the pictures were windowed, float32.

    Raises:
        UserError: no readable picture, colours, more than 8 bits, another size than the first one has.
    """
    ordered = sorted(files, key=_number)
    low, high = window
    size = _size(ordered[0])

    def planes() -> Generator[np.ndarray, None, None]:
        for path in ordered:
            yield (low + _grey(path, size).T * np.float32((high - low) / 255)).astype(np.float32)

    return Raster(ordered[0].parent, (*size, len(ordered)), _LEFT_BACK_UP, planes, NOTES)


def read_labels(files: Sequence[Path]) -> Raster:
    """Masks of the liver and of lesions as labels 0, 1 (liver) and 2 (lesion, which wins), uint8.

    Raises:
        UserError: as in `read_images`; a mask that is neither 0 and 255 nor 0 and 1.
    """
    ordered = sorted(files, key=_number)
    size = _size(ordered[0])

    def planes() -> Generator[np.ndarray, None, None]:
        for k in range(0, len(ordered), 2):
            labels = np.zeros(size, np.uint8)
            for path in sorted(ordered[k : k + 2], key=lambda path: 'lesion' in path.name):
                labels[_mask(path, size).T] = 2 if 'lesionmask' in path.name else 1
            yield labels

    return Raster(ordered[0].parent, (*size, len(ordered) // 2), _LEFT_BACK_UP, planes)


def _check_complete(volume: int, k: int, parts: dict[str, Path], first: dict[str, Path]) -> None:
    for kind, name in (
        ('image', f'volume-{volume}_{k}.png'),
        ('liver', f'segmentation-{volume}_livermask_{k}.png'),
        ('lesion', f'segmentation-{volume}_lesionmask_{k}.png'),
    ):
        if kind not in parts:
            beside = next(iter((parts or first).values())).parent
            raise UserError(
                f'{beside / name}: not there, though other pictures of volume {volume} are; expected a picture, a '
                'liver mask and a lesion mask of every slice, copy it in'
            )


def _number(path: Path) -> int:
    return int(re.findall(r'\d+', path.name)[-1])


def _size(path: Path) -> tuple[int, int]:
    """(columns, rows)."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try:
            with Image.open(path) as picture:
                size = picture.size
        except _UNREADABLE as error:
            raise _unreadable(path, error) from error
    if max(size) > LARGEST_SIDE:
        raise UserError(f'{path}: {size[0]}x{size[1]} pixels; expected at most {LARGEST_SIDE} a side, scale it down')
    return size


def _grey(path: Path, size: tuple[int, int]) -> np.ndarray:
    """The picture [row, column] as uint8."""
    own = _size(path)
    if own != size:
        raise UserError(f'{path}: {own[0]}x{own[1]} pixels; expected {size[0]}x{size[1]}, as the first slice has')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try:
            with Image.open(path) as picture:
                mode = picture.mode
                pixels = np.asarray(picture.convert('L' if mode in ('1', 'L') else 'RGB'))
        except _UNREADABLE as error:
            raise _unreadable(path, error) from error
    if mode not in ('1', 'L', 'P', 'RGB', 'RGBA'):
        raise UserError(f'{path}: pixels of type {mode}; expected 8 bits of grey, convert it')
    if pixels.ndim == 3:
        if (pixels != pixels[..., :1]).any():
            raise UserError(f'{path}: coloured; expected grey, convert it')
        pixels = pixels[..., 0]
    return pixels


def _mask(path: Path, size: tuple[int, int]) -> np.ndarray:
    pixels = _grey(path, size)
    values = np.unique(pixels)
    if not (np.isin(values, (0, 255)).all() or np.isin(values, (0, 1)).all()):
        found = ', '.join(map(str, values[:5])) + (', …' if len(values) > 5 else '')
        raise UserError(f'{path}: values {found}; expected a mask of 0 and 255 (or 0 and 1), without smoothed edges')
    return pixels > 0


def _unreadable(path: Path, error: BaseException) -> UserError:
    said = (str(error).splitlines() or [type(error).__name__])[0][:120]
    return UserError(f'{path}: not a readable PNG ({said}); expected a sound file, download it again')
