"""Preparing at scale: shards on one disk, kills, limits of time and memory, any orientation, patients by anatomy."""

import itertools
import json
import subprocess
import sys
import textwrap
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from prepare_test import content, settings, write_cases

from body import body, labels_of, second_visit, write_body
from liver_jax.data.prepare import prepare
from liver_jax.data.store import SliceStore, read_manifest
from liver_jax.errors import UserError
from liver_jax.files import locked

PROGRAM = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = [{here!r}, {tests!r}]
from prepare_test import prepare, settings

def watch(event, arguments):
    if event == 'os.rename' and Path(os.fspath(arguments[1])).name == sys.argv[3]:
        os.kill(os.getpid(), signal.SIGKILL)

if __name__ == '__main__':
    sys.addaudithook(watch)
    prepare(settings(Path(sys.argv[1])), shard=(int(sys.argv[2]), 3))
"""


def start_shard(folder: Path, number: int, die_at: str = '') -> subprocess.Popen[str]:
    """Prepare a third of the volumes in a process, which kills itself just before `die_at` gets its name."""
    here = Path(__file__).parent
    program = folder / 'program.py'
    program.write_text(PROGRAM.format(here=str(here), tests=str(here.parent)))
    arguments = [sys.executable, str(program), str(folder), str(number), die_at]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors


def test_three_processes_one_killed_make_the_bytes_of_one(tmp_path):
    write_cases(tmp_path / 'raw', 7)
    unbroken = content(prepare(settings(tmp_path, store=str(tmp_path / 'unbroken'))))
    shards = [start_shard(tmp_path, number, 'volume-4' if number == 1 else '') for number in range(3)]
    assert [end(shard)[0] for shard in shards] == [0, -9, 0]
    with pytest.raises(UserError, match=r'1 of 7 volumes are not prepared \(volume-4\); run the shards'):
        prepare(settings(tmp_path), merge=True)
    assert not (tmp_path / 'store').exists()
    code, errors = end(start_shard(tmp_path, 1))
    assert code == 0, errors
    assert content(prepare(settings(tmp_path), merge=True)) == unbroken
    assert not (tmp_path / 'store.partial').exists()


def test_after_shards_a_plain_call_finishes_what_is_missing(tmp_path):
    write_cases(tmp_path / 'raw', 3)
    prepare(settings(tmp_path), shard=(2, 3))
    assert sorted(path.name for path in (tmp_path / 'store.partial').glob('volume-*')) == ['volume-2']
    assert len(SliceStore(prepare(settings(tmp_path)))) == 12


def test_a_shard_runs_once_at_a_time_and_never_beside_the_merge(tmp_path):
    write_cases(tmp_path / 'raw', 3)
    working = tmp_path / 'store.partial'
    with locked(working, shared=True), locked(working / '.shard-0-of-3'):
        with pytest.raises(UserError, match='is working there'):
            prepare(settings(tmp_path), shard=(0, 3))
        prepare(settings(tmp_path), shard=(1, 3))
        with pytest.raises(UserError, match='is working there'):
            prepare(settings(tmp_path), merge=True)


def test_nothing_to_merge_says_what_to_do(tmp_path):
    write_cases(tmp_path / 'raw', 2)
    with pytest.raises(UserError, match=r'2 of 2 volumes are not prepared \(volume-0, volume-1\)'):
        prepare(settings(tmp_path), merge=True)


def test_shards_with_other_settings_are_named_and_kept(tmp_path):
    write_cases(tmp_path / 'raw', 2)
    prepare(settings(tmp_path, window=(0.0, 100.0)), shard=(0, 2))
    for arguments in ({'merge': True}, {'shard': (1, 2)}, {}):
        with pytest.raises(UserError, match=r'volume-0 was prepared with window=\[0\.0, 100\.0\], now it is \[-160'):
            prepare(settings(tmp_path), **arguments)
    prepare(settings(tmp_path, window=(0.0, 100.0)))


def test_a_case_may_be_called_store(tmp_path):
    write_cases(tmp_path / 'raw', 2)
    for number, name in enumerate(('store', 'other')):
        for kind in ('volume', 'segmentation'):
            (tmp_path / 'own' / name).mkdir(parents=True, exist_ok=True)
            (tmp_path / 'raw' / f'{kind}-{number}.nii').rename(tmp_path / 'own' / name / f'{kind}.nii')
    patterns = {'images': '*/volume.nii', 'labels': '*/segmentation.nii'}
    store = SliceStore(prepare(settings(tmp_path, raw=str(tmp_path / 'own'), **patterns)))
    assert [case['name'] for case in store.manifest['cases']] == ['other', 'store']


def test_all_refused_volumes_are_counted_and_the_sound_ones_kept(tmp_path):
    write_cases(tmp_path / 'raw', 4)
    for number in (1, 2):
        (tmp_path / 'raw' / f'volume-{number}.nii').write_bytes(b'')
    with pytest.raises(UserError, match=r'volume-1\.nii: .* \(and 1 more like it: liver-jax inspect lists them\)'):
        prepare(settings(tmp_path))
    assert {path.name for path in (tmp_path / 'store.partial').glob('v*')} == {'volume-0', 'volume-3'}


@pytest.mark.parametrize('workers', [1, 2])
def test_a_volume_over_the_time_limit_is_named_and_ends_it(tmp_path, workers):
    write_cases(tmp_path / 'raw', 2)
    slow = np.random.default_rng(0).integers(-300, 300, (60, 512, 512))
    nib.save(nib.Nifti1Image(slow.T.astype(np.int16), np.diag([-1, -1, 1, 1])), tmp_path / 'raw' / 'volume-1.nii')
    nib.save(nib.Nifti1Image((slow.T > 1e9).astype(np.int16), np.eye(4)), tmp_path / 'raw' / 'segmentation-1.nii')
    with pytest.raises(UserError, match=r'volume-1\.nii: not done after 0\.2 s; .* raise data\.case_seconds'):
        prepare(settings(tmp_path, workers=workers, case_seconds=0.2))
    assert not (tmp_path / 'store').exists()


def test_a_volume_that_must_be_held_whole_needs_the_memory_for_it(tmp_path):
    write_cases(tmp_path / 'raw', 1)
    for name in ('volume', 'segmentation'):
        path = tmp_path / 'raw' / f'{name}-0.nii'
        image = nib.load(path)
        array = np.asarray(image.dataobj).transpose(2, 0, 1).copy()
        nib.save(nib.Nifti1Image(array, image.affine[:, [2, 0, 1, 3]]), path)
    with pytest.raises(UserError, match=r'not stored slice by slice, .* raise data\.memory_gb or lower data\.workers'):
        prepare(settings(tmp_path, memory_gb=0.150000001))
    assert len(SliceStore(prepare(settings(tmp_path, memory_gb=0.16)))) == 4


def test_memory_stays_at_a_few_planes(tmp_path):
    """60 MB of voxels in each of image and labels; what is kept of them are 4 slices."""
    (tmp_path / 'raw').mkdir()
    hu = np.zeros((512, 512, 120), np.int16)
    hu[100:400, 100:400] = np.arange(120) % 40
    labels = np.zeros(hu.shape, np.int16)
    labels[200:300, 200:300, 50:54] = 2
    for name, array in (('volume', hu), ('segmentation', labels)):
        nib.save(nib.Nifti1Image(array, np.diag([-0.7, -0.7, 1, 1])), tmp_path / 'raw' / f'{name}-0.nii')
    program = f"""
        import resource, sys
        sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(Path(__file__).parent.parent)!r}]
        from pathlib import Path
        from prepare_test import prepare, settings
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        prepare(settings(Path({str(tmp_path)!r}), slices='tumor'))
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
    """
    run = subprocess.run([sys.executable, '-c', textwrap.dedent(program)], capture_output=True, text=True, check=True)
    assert int(run.stdout) < 40


def test_all_48_orientations_prepare_to_the_same_slices_and_keep_the_way_back(tmp_path):
    hu, axes = body(0), {'L': 2, 'R': 2, 'P': 1, 'A': 1, 'S': 0, 'I': 0}
    spacing, labels = (8.0, 5.0, 5.0), labels_of(hu)
    towards = {'L': (-1, 0, 0), 'R': (1, 0, 0), 'P': (0, -1, 0), 'A': (0, 1, 0), 'S': (0, 0, 1), 'I': (0, 0, -1)}
    (tmp_path / 'raw').mkdir()
    codes = [''.join(p) for letters in itertools.product('LR', 'PA', 'SI') for p in itertools.permutations(letters)]
    for number, code in enumerate(codes):
        mirror = tuple(slice(None, None, -1 if letter in 'RAI' else 1) for letter in code)
        affine = np.eye(4)
        affine[:3, :3] = np.transpose([np.multiply(towards[c], spacing[axes[c]]) for c in code])
        for name, array in (('volume', hu), ('segmentation', labels)):
            turned = array.transpose([axes[c] for c in code])[mirror]
            nib.save(nib.Nifti1Image(turned, affine), tmp_path / 'raw' / f'{name}-{number}.nii')
    store = SliceStore(prepare(settings(tmp_path, slices='tumor', image_size=64)))
    first, *others = store.manifest['cases']
    images = store.images(np.arange(len(store))).reshape(48, -1, 64, 64)
    masks = store.masks(np.arange(len(store)), 'tumor').reshape(48, -1, 64, 64)
    assert (images == images[0]).all()
    assert (masks == masks[0]).all()
    assert masks.any()
    for case, code in zip(store.manifest['cases'], codes, strict=True):
        assert case['orientation'] == code
        assert case['content_sha256'] == first['content_sha256']
        # Back on the native grid: where the manifest's affine and slices say the lesion is, there it is.
        image = nib.load(tmp_path / 'raw' / case['label']['name'])
        assert np.allclose(case['affine'], image.affine[:3])
        assert case['shape'] == list(image.shape)
        world = nib.affines.apply_affine(image.affine, np.argwhere(np.asarray(image.dataobj) == 2))
        along = {'S': 1, 'I': -1}[next(c for c in code if c in 'SI')]
        start = image.affine[2, 3] if along == 1 else image.affine[2, 3] - 8.0 * (len(hu) - 1)
        assert sorted({round((z - start) / 8.0) for z in world[:, 2]}) == [entry['slice'] for entry in case['slices']]
    assert len({case['patient'] for case in store.manifest['cases']}) == 1
    assert len(others) == 47


def test_patients_come_from_the_anatomy_and_the_manifest_says_so(tmp_path):
    (tmp_path / 'raw').mkdir()
    ann = body(0)
    for number, hu in enumerate((ann, second_visit(ann), body(1))):
        write_body(tmp_path / 'raw', number, hu)
    manifest = read_manifest(prepare(settings(tmp_path, slices='tumor')))
    assert [case['patient'] for case in manifest['cases']] == ['volume-0', 'volume-0', 'volume-2']
    assert manifest['patients'].startswith('from the anatomy: ')
    assert 'volume-0 and volume-1 are one patient (likely, similarity 0.' in manifest['patients']
    each = read_manifest(prepare(settings(tmp_path, patients='volume', store=str(tmp_path / 'each'))))
    assert [case['patient'] for case in each['cases']] == ['volume-0', 'volume-1', 'volume-2']
    with pytest.raises(UserError, match='prepared with other patients'):
        prepare(settings(tmp_path, patients='volume', slices='tumor'))


def test_what_inspect_refuses_prepare_refuses(tmp_path):
    (tmp_path / 'raw').mkdir()
    write_body(tmp_path / 'raw', 0, body(0) + np.int16(1024))
    with pytest.raises(UserError, match=r'volume-0\.nii\.gz: .* HU in the liver on average; expected 0 to 250'):
        prepare(settings(tmp_path))


def test_warnings_are_said_once_for_all_cases_that_have_them(tmp_path, caplog):
    (tmp_path / 'raw').mkdir()
    for number in range(2):
        write_body(tmp_path / 'raw', number, body(number), np.minimum(labels_of(body(number)), 1))
    prepare(settings(tmp_path))
    lines = [record.getMessage() for record in caplog.records if 'no tumour' in record.getMessage()]
    assert lines == ["volume-0, volume-1: no tumour: it gives no slice with data.slices='tumor'"]


def test_the_manifest_is_readable(tmp_path):
    write_cases(tmp_path / 'raw', 1)
    text = (prepare(settings(tmp_path)) / 'manifest.json').read_text()
    assert len(text.splitlines()) < 60
    assert json.loads(text)['cases'][0]['spacing_mm'] == [3.0, 2.0, 0.5]


def test_a_scan_that_is_there_twice_is_said_and_as_two_patients_refused(tmp_path, caplog):
    (tmp_path / 'raw').mkdir()
    for number, seed in enumerate((0, 1, 0)):
        write_body(tmp_path / 'raw', number, body(seed))
    with pytest.raises(UserError, match='volume-0 and volume-2 are the same scan, given to different patients'):
        prepare(settings(tmp_path, patients='volume'))
    prepare(settings(tmp_path))
    assert 'volume-0 and volume-2 are the same scan; remove one, it counts twice' in caplog.messages
