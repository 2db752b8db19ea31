"""Readers against damage: seeded mutations of small files are read or refused, quickly and in little memory.

Each kind runs in a process of its own, which reports what went wrong: `python fuzz_test.py KIND` does it alone.
"""

import faulthandler
import gzip
import resource
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

MUTATIONS = 500
SECONDS, MEGABYTES = 2, 500
KINDS = ['nifti', 'nifti.gz', 'dicom', 'dicom-compressed', 'dicom-seg']
EXTREMES = [
    *(struct.pack('<h', value) for value in (0, 1, -1, 32767, -32768)),
    *(struct.pack('<i', value) for value in (0, -1, 2**31 - 1, -(2**31), 100_000)),
    *(struct.pack('<f', value) for value in (np.nan, np.inf, -1.0, 1e38, 0.0)),
    struct.pack('<3h', 32767, 32767, 32767),
    b'\xff' * 8,
    b'\xff\xfe\x00\xe0' + b'\xff' * 4,  # an item of a sequence without end
]


@pytest.mark.parametrize('kind', KINDS)
def test_damaged_files_are_read_or_refused(kind):
    run = subprocess.run([sys.executable, __file__, kind], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    assert 'arning' not in run.stderr
    read, refused = map(int, run.stdout.split())
    assert read + refused == MUTATIONS
    assert min(read, refused) > MUTATIONS / 50  # else nothing was tried


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """Damage of one of five sorts, in the header as often as anywhere."""
    damaged = bytearray(content)
    end = min(len(content), int(rng.choice([400, 1500, len(content)])))
    at = int(rng.integers(end))
    match rng.integers(5):
        case 0:
            for place in rng.integers(0, end, rng.integers(1, 9)):
                damaged[place] ^= 1 << rng.integers(8)
        case 1:
            del damaged[at:]
        case 2:
            del damaged[at : at + int(rng.integers(1, 40))]
        case 3:
            damaged[at:at] = rng.bytes(rng.integers(1, 40))
        case _:
            extreme = EXTREMES[rng.integers(len(EXTREMES))]
            at -= at % 2
            damaged[at : at + len(extreme)] = extreme
    return bytes(damaged)


def nifti_files(folder: Path, ending: str) -> tuple[Callable[[int], Path], Callable[[int], object]]:
    """Which file to damage, and how to read."""
    from liver_jax.data.formats.nifti import write_nifti
    from liver_jax.data.layouts import Case
    from liver_jax.data.volumes import read_case

    image, label = folder / f'volume-0{ending}', folder / f'segmentation-0{ending}'
    hu = np.random.default_rng(0).integers(-1000, 1000, (12, 10, 8)).astype(np.int16)
    affine = np.diag([-0.8, -0.7, 2.5, 1.0])
    write_nifti(image, hu, affine)
    write_nifti(label, (hu % 3).astype(np.uint8), affine)
    return lambda n: label if n % 4 == 0 else image, lambda _: read_case(Case('0', 'nifti', (image,), (label,), ''))


def dicom_files(folder: Path, kind: str) -> tuple[Callable[[int], Path], Callable[[int], object]]:
    from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

    from liver_jax.data.formats.dicom import read_segmentation, read_series
    from liver_jax.data.formats.dicom_series import find_series
    from small_dicom import jpeg_lossless, save_all, segmentation, slices

    shape = (3, 16, 16) if kind == 'dicom' else (3, 32, 32)
    hu = np.random.default_rng(0).integers(-1000, 1000, shape).astype(np.int16)
    syntaxes: list[Callable] = [len]
    if kind == 'dicom-compressed':
        syntaxes = [lambda one, s=s: one.compress(s) for s in (RLELossless, JPEGLSLossless, JPEG2000Lossless)]
        syntaxes.append(jpeg_lossless)
    series = []
    for n, compress in enumerate(syntaxes):
        made = slices(np.zeros((3, 16, 16), np.int16) if compress is jpeg_lossless else hu)
        for one in made:
            compress(one)
        series.append(save_all(folder / str(n), made))
    seg = folder / 'seg'
    if kind == 'dicom-seg':
        segmentation(made, {'Liver': hu > 0, 'Tumor': hu > 900}).save_as(seg)

    raster = read_series(series[0])

    def read(n: int) -> None:
        files = series[n % len(series)]
        if n % 5 == 0:
            find_series(folder, (*files, seg) if seg.exists() else files)
        read_from = read_segmentation((seg,), raster) if seg.exists() else read_series(files)
        list(read_from.planes())

    return lambda n: seg if seg.exists() else series[n % len(series)][n % 3], read


def peak() -> float:
    """Megabytes that this process ever had in memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def fuzz(kind: str, folder: Path) -> int:
    from liver_jax.errors import UserError

    if kind.startswith('nifti'):
        target, read = nifti_files(folder, '.nii.gz' if kind.endswith('gz') else '.nii')
    else:
        target, read = dicom_files(folder, kind)
    read(0)
    before, done, wrong = peak(), [0, 0], 0
    for n in range(MUTATIONS):
        rng = np.random.default_rng([KINDS.index(kind), n])
        path = target(n)
        sound = path.read_bytes()
        inside = kind == 'nifti.gz' and n % 2
        path.write_bytes(gzip.compress(mutated(gzip.decompress(sound), rng), 1) if inside else mutated(sound, rng))
        faulthandler.dump_traceback_later(5 * SECONDS, exit=True)
        start = time.perf_counter()
        try:
            read(n)
            done[0] += 1
        except UserError as refusal:
            done[1] += 1
            if '\n' in str(refusal) or str(folder) not in str(refusal):
                wrong += 1
                print(f'mutation {n}: {str(refusal)!r}')
        except BaseException:
            wrong += 1
            print(f'mutation {n}: {traceback.format_exc(limit=-3)}')
        seconds = time.perf_counter() - start
        if seconds > SECONDS or peak() - before > MEGABYTES:
            print(f'mutation {n}: {seconds:.1f} s, {peak() - before:.0f} MB')
            return 1
        path.write_bytes(sound)
    faulthandler.cancel_dump_traceback_later()
    print(*done)
    return wrong


if __name__ == '__main__':
    sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]
    with tempfile.TemporaryDirectory() as name:
        sys.exit(min(fuzz(sys.argv[1], Path(name)), 1))
