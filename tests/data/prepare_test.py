"""Volumes -> store: pixel values worked by hand, refusals, and what a broken-off run leaves."""

import dataclasses
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from liver_jax.config import DataConfig
from liver_jax.data.formats.nifti import write_nifti
from liver_jax.data.prepare import prepare
from liver_jax.data.store import SliceStore
from liver_jax.errors import UserError

# Axes (column, row, slice) towards left, back and head: as in the store. Pixels of 0.5 x 2 mm are of 1 mm².
AFFINE = np.diag([-0.5, -2.0, 3.0, 1.0])
SIDE = 16


def write_case(raw: Path, number: int, hu: np.ndarray, labels: np.ndarray) -> None:
    """Arrays [slice, row, column], uncompressed: files of equal shape have equal sizes."""
    raw.mkdir(exist_ok=True)
    write_nifti(raw / f'volume-{number}.nii', hu.astype(np.int16).transpose(2, 1, 0), AFFINE)
    write_nifti(raw / f'segmentation-{number}.nii', labels.astype(np.uint8).transpose(2, 1, 0), AFFINE)


def noise(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, shape)


def write_cases(raw: Path, count: int) -> None:
    """Noise, with a tumour of 4x4 pixels in slices 1 and 2 of 4."""
    for number in range(count):
        labels = np.zeros((4, 20, 20))
        labels[1:3, 8:12, 8:12] = 2
        write_case(raw, number, np.random.default_rng(number).integers(-300, 300, labels.shape), labels)


def settings(folder: Path, **fields: Any) -> DataConfig:
    """Everything kept, raw volumes in `folder/raw`, the store in `folder/store`."""
    config = DataConfig(
        raw=str(folder / 'raw'),
        images='',
        labels='',
        store=str(folder / 'store'),
        patients='',
        image_size=SIDE,
        window=(-160.0, 240.0),
        slices='all',
        masks='soft',
        target='tumor',
        workers=1,
        memory_gb=2.0,
        case_seconds=60.0,
        placement='host',
    )
    return dataclasses.replace(config, **fields)


def prepared(folder: Path, hu: np.ndarray, labels: np.ndarray, **fields: Any) -> dict[str, np.ndarray]:
    """The arrays of the store of a slice, images and masks by name [row, column]."""
    body = np.resize([-1000, 100], hu.shape)  # a second slice, for what is constant is no CT
    write_case(folder / 'raw', 0, np.stack([hu, body]), np.stack([labels, np.zeros_like(labels)]))
    store = SliceStore(prepare(settings(folder, **fields)))
    (image,) = store.images(np.array([0]))
    (tumor,), (liver,) = (store.masks(np.array([0]), target) for target in ('tumor', 'liver_or_tumor'))
    return {'image': image, 'tumor': tumor, 'liver': liver}


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def identity(folder: Path) -> dict[str, tuple[int, int]]:
    """Which files these are, not what is in them: a file written again is another one."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.iterdir()}


def test_hu_are_clipped_to_the_window_and_rounded_to_256_steps(tmp_path):
    #       HU   -160 -159   39   40   41  240  241 -1000 3000
    # of 400   :   0    1   199  200  201  400
    # times 255:   0  .64 126.9 127.5 128.1 255, and halves go to the even number
    hu = np.zeros((SIDE, SIDE))
    hu[0, :9] = -160, -159, 39, 40, 41, 240, 241, -1000, 3000
    image = prepared(tmp_path, hu, np.zeros_like(hu))['image']
    assert image[0, :9].tolist() == [0, 1, 127, 128, 128, 255, 255, 0, 255]
    assert np.unique(image[1:]).tolist() == [102]  # 160 / 400 * 255


def test_another_window_is_scaled_alike(tmp_path):
    hu = np.full((SIDE, SIDE), 50)
    assert np.unique(prepared(tmp_path, hu, np.zeros_like(hu), window=(0.0, 100.0))['image']).tolist() == [128]


def test_images_are_averaged_over_areas_after_the_window(tmp_path):
    hu = np.full((32, 32), -160)
    hu[0:2, 0:2] = [[-160, -160], [240, 240]]  # mean 1/2
    hu[0:2, 2:4] = [[-3000, 240], [240, 240]]  # 3/4 = 191.25, not what the mean of the HU would give
    image = prepared(tmp_path, hu, np.zeros_like(hu))['image']
    assert image[0, :3].tolist() == [128, 191, 0]


def test_soft_masks_hold_the_part_of_each_pixel_that_is_inside(tmp_path):
    labels = np.zeros((32, 32))
    labels[0, 0] = 2
    labels[0:2, 2:4] = [[2, 1], [1, 1]]
    masks = prepared(tmp_path, np.zeros_like(labels), labels)
    assert masks['tumor'][0, :3].tolist() == [64, 64, 0]  # 1/4 * 255 = 63.75
    assert masks['liver'][0, :3].tolist() == [64, 255, 0]  # tumour is in the liver
    assert not masks['liver'][1:].any()


def test_areas_that_do_not_divide_are_shared_by_the_pixels_they_touch(tmp_path):
    # 24 -> 16: a new pixel has 1.5 x 1.5 old ones. Old pixel (0, 0) is all in new (0, 0); the middle one of the three
    # old rows under two new ones goes half to each.
    labels = np.zeros((24, 24))
    labels[0, 0] = 2
    labels[4, 4] = 1
    masks = prepared(tmp_path, np.zeros_like(labels), labels)
    assert masks['tumor'][0, 0] == 113  # 1 / 2.25 * 255 = 113.3
    assert masks['liver'][2:4, 2:4].tolist() == [[28, 28], [28, 28]]  # 1/4 / 2.25 * 255 = 28.3
    assert np.count_nonzero(masks['liver']) == 5


def test_nearest_masks_are_hard_and_at_the_same_place(tmp_path):
    labels = np.zeros((40, 40))
    labels[10:30, 10:30] = 2
    labels[20, 20] = 0
    masks = prepared(tmp_path, np.zeros_like(labels), labels, masks='nearest')
    assert np.unique(masks['tumor']).tolist() == [0, 255]
    assert np.argwhere(masks['tumor']).min() == 4
    assert np.argwhere(masks['tumor']).max() == 11
    assert np.count_nonzero(masks['tumor']) >= 63  # of 8 x 8; the hole in the middle may be hit or missed


def test_enlarging_keeps_values_and_place(tmp_path):
    labels = np.zeros((8, 8))
    labels[:, 4:] = 2
    arrays = prepared(tmp_path, np.where(labels == 2, 240, -160), labels)
    for name in ('image', 'tumor'):
        assert not arrays[name][:, :7].any()
        assert np.unique(arrays[name][:, 9:]).tolist() == [255]


@pytest.mark.parametrize('transposed', [False, True])
def test_slices_that_are_not_square_are_padded_not_stretched(tmp_path, transposed):
    labels = np.full((16, 32), 2)
    expected = np.zeros((SIDE, SIDE), int)
    expected[4:12] = 255
    if transposed:
        labels, expected = labels.T, expected.T
    arrays = prepared(tmp_path, np.full_like(labels, 240), labels)
    for name in ('image', 'tumor', 'liver'):
        np.testing.assert_array_equal(arrays[name], expected)


@pytest.mark.parametrize(('slices', 'kept'), [('tumor', [2, 3]), ('liver', [1, 2, 3]), ('all', [0, 1, 2, 3])])
def test_which_slices_are_kept(tmp_path, slices, kept):
    labels = np.zeros((4, 16, 16))
    labels[1, 5, 5] = 1
    labels[2, 5, 5] = 2
    labels[3, 5, 4:6] = 1, 2
    write_case(tmp_path / 'raw', 0, noise(labels.shape), labels)
    store = SliceStore(prepare(settings(tmp_path, slices=slices)))
    assert [row.index for row in store.rows] == kept
    assert len(store) == len(kept)


def test_cases_without_kept_slices_stand_in_the_manifest(tmp_path):
    write_cases(tmp_path / 'raw', 2)
    write_case(tmp_path / 'raw', 2, noise((3, 16, 16)), np.ones((3, 16, 16)))
    store = SliceStore(prepare(settings(tmp_path, slices='tumor')))
    assert [len(case['slices']) for case in store.manifest['cases']] == [2, 2, 0]
    assert [row.case for row in store.rows] == ['volume-0', 'volume-0', 'volume-1', 'volume-1']


def test_no_slice_left_says_what_to_change_and_leaves_no_store(tmp_path):
    write_case(tmp_path / 'raw', 0, noise((3, 16, 16)), np.ones((3, 16, 16)))
    with pytest.raises(UserError, match=r"no slice left of 1 volumes with data\.slices='tumor'"):
        prepare(settings(tmp_path, slices='tumor'))
    assert not (tmp_path / 'store').exists()
    assert len(SliceStore(prepare(settings(tmp_path, slices='liver')))) == 3


def test_the_manifest_tells_where_everything_comes_from(tmp_path):
    labels = np.zeros((3, 20, 30))
    labels[1, 5:10, 5:10] = 1
    labels[1, 6:8, 6:8] = 2
    write_case(tmp_path / 'raw', 12, noise(labels.shape), labels)
    (tmp_path / 'raw' / 'patients.csv').write_text('case,patient\nvolume-12,Ann\n')
    store = prepare(settings(tmp_path, slices='liver'))
    manifest = json.loads((store / 'manifest.json').read_text())
    (case,) = manifest.pop('cases')
    assert manifest == {
        'format': 2,
        'patients': 'from patients.csv',
        'look_alikes': [],
        'settings': {'image_size': 16, 'window': [-160.0, 240.0], 'slices': 'liver', 'masks': 'soft'},
        'slices': 1,
    }
    for kind, file in (('image', 'volume-12.nii'), ('label', 'segmentation-12.nii')):
        path = tmp_path / 'raw' / file
        assert case.pop(kind) == {
            'name': file,
            'files': 1,
            'bytes': path.stat().st_size,
            'modified_ns': path.stat().st_mtime_ns,
            'sha256': hashlib.sha256(path.read_bytes()).hexdigest(),
        }
    assert len(case.pop('content_sha256')) == len(case.pop('labels_sha256')) == 64
    assert 90 < case.pop('liver_hu') < 110
    assert (
        case
        == {
            'name': 'volume-12',
            'patient': 'Ann',
            'verdict': 'warn',
            'reasons': [
                'no value below 0 (from 0 to 199): these may be no HU; subtract the offset',
                *case['reasons'][1:],
            ],
            'hu_range': [0, 199],
            'liver_ml': 0.075,  # 25 voxels of 3 mm³
            'tumor_ml': 0.012,
            'lesions': 1,
            'shape': [30, 20, 3],
            'size': [3, 20, 30],
            'orientation': 'LPS',
            'affine': AFFINE[:3].tolist(),
            'spacing_mm': [3.0, 2.0, 0.5],
            'slices': [{'slice': 1, 'liver_mm2': 25.0, 'tumor_mm2': 4.0}],
        }
    )


def test_a_second_call_finds_the_store_and_writes_nothing(tmp_path):
    write_cases(tmp_path / 'raw', 2)
    before = identity(prepare(settings(tmp_path)))
    assert identity(prepare(settings(tmp_path, workers=2, target='liver'))) == before
    assert not (tmp_path / 'store.partial').exists()


@pytest.mark.parametrize(
    ('field', 'value', 'said'),
    [
        ('image_size', 32, r'prepared with image_size=16, but the config has data\.image_size=32'),
        ('window', (-100.0, 240.0), r'prepared with window=\[-160\.0, 240\.0\], but .* data\.window='),
        ('slices', 'tumor', r"prepared with slices='all', but the config has data\.slices='tumor'"),
        ('masks', 'nearest', r"prepared with masks='soft', but the config has data\.masks='nearest'"),
    ],
)
def test_a_store_made_with_another_setting_is_refused_with_its_name(tmp_path, field, value, said):
    write_cases(tmp_path / 'raw', 1)
    before = identity(prepare(settings(tmp_path)))
    with pytest.raises(UserError, match=said):
        prepare(settings(tmp_path, **{field: value}))
    assert identity(tmp_path / 'store') == before


def test_a_store_of_other_volumes_is_refused_with_the_name_of_one(tmp_path):
    write_cases(tmp_path / 'raw', 2)
    prepare(settings(tmp_path))
    refused = pytest.raises(UserError, match=r'other volumes \(volume-1 is new, gone or changed\)')

    label = tmp_path / 'raw' / 'segmentation-1.nii'
    original = label.read_bytes()
    label.write_bytes(original[:-1] + b'\x01')  # one voxel, the same size
    with refused:
        prepare(settings(tmp_path))
    label.write_bytes(original + b'longer')
    with refused:
        prepare(settings(tmp_path))
    label.write_bytes(original)  # changed back: newer than the store, but the same
    prepare(settings(tmp_path))
    (tmp_path / 'raw' / 'patients.csv').write_text('case,patient\nvolume-0,volume-0\nvolume-1,Ann\n')
    with pytest.raises(
        UserError, match=r'prepared with other patients \(from the anatomy.*, now they are from patients'
    ):
        prepare(settings(tmp_path))
    (tmp_path / 'raw' / 'patients.csv').unlink()
    label.unlink()
    (tmp_path / 'raw' / 'volume-1.nii').unlink()
    with refused:
        prepare(settings(tmp_path))


def test_an_empty_folder_becomes_the_store_but_nothing_else_is_overwritten(tmp_path):
    write_cases(tmp_path / 'raw', 1)
    (tmp_path / 'store').mkdir()
    assert len(SliceStore(prepare(settings(tmp_path)))) == 4
    before = content(tmp_path / 'raw')
    for place in ('raw', 'raw/volume-0.nii'):
        with pytest.raises(UserError, match='there is something else than a slice store'):
            prepare(settings(tmp_path, store=str(tmp_path / place)))
    assert content(tmp_path / 'raw') == before


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    write_cases(tmp_path / 'raw', 1)
    with pytest.raises(UserError, match=r'volume-0\.nii/store\.partial: cannot write there \(Not a directory\)'):
        prepare(settings(tmp_path, store=str(tmp_path / 'raw' / 'volume-0.nii' / 'store')))


def test_a_full_disk_is_an_error_and_the_next_run_goes_on(tmp_path):
    write_cases(tmp_path / 'raw', 3)
    program = f"""
import resource, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from prepare_test import prepare, settings

resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))  # enough for one case, not for three
prepare(settings(Path({str(tmp_path)!r})))
"""
    run = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True)
    assert f'UserError: {tmp_path}/store: File too large; expected a data.store that can be written' in run.stderr
    assert not (tmp_path / 'store').exists()
    assert len(list((tmp_path / 'store.partial').glob('volume-*'))) == 3
    assert len(SliceStore(prepare(settings(tmp_path)))) == 12


def test_no_raw_folder_given_names_the_field(tmp_path):
    with pytest.raises(UserError, match=r'config field data\.raw is empty'):
        prepare(settings(tmp_path, raw=''))


def test_after_a_bad_volume_the_finished_ones_are_kept(tmp_path):
    write_cases(tmp_path / 'raw', 3)
    unbroken = content(prepare(settings(tmp_path, store=str(tmp_path / 'unbroken'))))
    volume = tmp_path / 'raw' / 'volume-1.nii'
    good = volume.read_bytes()
    volume.write_bytes(good[:1000])
    with pytest.raises(UserError, match=r'volume-1\.nii: its voxels cannot be read'):
        prepare(settings(tmp_path))
    assert not (tmp_path / 'store').exists()
    finished = tmp_path / 'store.partial' / 'volume-0' / 'images.npy'
    marked = np.load(finished)
    np.save(finished, marked * 0 + 7)  # would not survive being prepared again
    volume.write_bytes(good)
    store = SliceStore(prepare(settings(tmp_path)))
    assert np.unique(store.images(np.arange(4))).tolist() == [7]
    assert content(store.path).keys() == unbroken.keys()
    assert content(store.path)['images.npy'][-8 * SIDE**2 :] == unbroken['images.npy'][-8 * SIDE**2 :]


def test_finished_volumes_that_no_longer_fit_are_prepared_again(tmp_path):
    write_cases(tmp_path / 'raw', 2)
    good = (tmp_path / 'raw' / 'volume-1.nii').read_bytes()
    (tmp_path / 'raw' / 'volume-1.nii').write_bytes(b'')
    with pytest.raises(UserError):
        prepare(settings(tmp_path))
    (tmp_path / 'raw' / 'volume-1.nii').write_bytes(good)
    label = tmp_path / 'raw' / 'segmentation-0.nii'
    label.write_bytes(label.read_bytes()[:-1] + b'\x02')  # the last voxel becomes tumour
    store = SliceStore(prepare(settings(tmp_path)))
    assert [row.tumor_area for row in store.rows] == [0, 16, 16, 1, 0, 16, 16, 0]


def run_killing(victim: str, module: str, name: str, folder: Path, workers: int) -> subprocess.CompletedProcess[str]:
    """Run prepare on `folder` as a program that sends SIGKILL to a process just before something gets its `name`.

    `module` says who does so: '__main__', or each worker ('__mp_main__' is the name by which it imports the program).
    """
    program = folder / 'program.py'
    program.write_text(f"""
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from prepare_test import prepare, settings

def watch(event, arguments):
    if event == 'os.rename' and Path(os.fspath(arguments[1])).name == {name!r}:
        os.kill({victim}, signal.SIGKILL)

if __name__ == {module!r}:
    sys.addaudithook(watch)
if __name__ == '__main__':
    prepare(settings(Path({str(folder)!r}), workers={workers}))
""")
    # This returns when the pipes close, so when the last of the processes has ended.
    return subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=30)


@pytest.mark.parametrize('moment', ['volume-1', 'store'])
def test_a_killed_run_leaves_no_store_and_the_next_one_makes_the_same_bytes(tmp_path, moment):
    write_cases(tmp_path / 'raw', 3)
    unbroken = content(prepare(settings(tmp_path, store=str(tmp_path / 'unbroken'))))
    assert run_killing('os.getpid()', '__main__', moment, tmp_path, workers=1).returncode == -9
    assert not (tmp_path / 'store').exists()
    finished = {path.name for path in (tmp_path / 'store.partial').glob('volume-*')}
    assert finished == ({'volume-0'} if moment == 'volume-1' else {'volume-0', 'volume-1', 'volume-2'})
    assert content(prepare(settings(tmp_path))) == unbroken
    assert not (tmp_path / 'store.partial').exists()


def test_a_part_that_lost_a_file_is_prepared_again(tmp_path):
    write_cases(tmp_path / 'raw', 3)
    unbroken = content(prepare(settings(tmp_path, store=str(tmp_path / 'unbroken'))))
    run_killing('os.getpid()', '__main__', 'store', tmp_path, workers=1)
    (tmp_path / 'store.partial' / 'volume-0' / 'images.npy').unlink()
    assert content(prepare(settings(tmp_path))) == unbroken


def test_one_and_two_workers_make_the_same_bytes(tmp_path):
    write_cases(tmp_path / 'raw', 3)
    one = content(prepare(settings(tmp_path, store=str(tmp_path / 'one'))))
    assert content(prepare(settings(tmp_path, store=str(tmp_path / 'two'), workers=2))) == one


def test_a_bad_volume_is_named_from_a_worker_too(tmp_path):
    write_cases(tmp_path / 'raw', 2)
    (tmp_path / 'raw' / 'segmentation-1.nii').write_bytes(b'')
    with pytest.raises(UserError, match=r'segmentation-1\.nii: not a readable NIfTI file'):
        prepare(settings(tmp_path, workers=2))
    assert not (tmp_path / 'store').exists()


def test_a_killed_worker_is_an_error_that_says_what_to_do(tmp_path):
    write_cases(tmp_path / 'raw', 3)
    run = run_killing('os.getpid()', '__mp_main__', 'volume-1', tmp_path, workers=2)
    assert run.returncode == 1
    assert 'UserError: ' in run.stderr
    assert 'was killed, perhaps for lack of memory; set data.workers lower' in run.stderr


def test_workers_of_a_killed_run_end_with_it(tmp_path):
    write_cases(tmp_path / 'raw', 3)
    assert run_killing('os.getppid()', '__mp_main__', 'volume-1', tmp_path, workers=2).returncode == -9
    assert not (tmp_path / 'store').exists()
