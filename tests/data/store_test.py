"""The slice store: its targets by hand, its manifest, and what a damaged one says."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from liver_jax.data.buffers import Buffers
from liver_jax.data.store import SliceStore, read_manifest, read_part, write_part, write_store
from liver_jax.errors import UserError

SETTINGS = {'image_size': 2, 'window': [-160.0, 240.0], 'slices': 'all', 'masks': 'soft'}


def describe(name: str, slices: list[int], patient: str = 'Ann') -> dict[str, Any]:
    entries = [{'slice': k, 'liver_mm2': 10.0 * k, 'tumor_mm2': float(k)} for k in slices]
    return {
        'name': name,
        'patient': patient,
        'content_sha256': f'hash of {name}',
        'image_sha256': '',
        'bytes': [1, 1],
        'spacing_mm': [2.5, 1.0, 1.0],
        'slices': entries,
    }


def make_store(folder: Path, *cases: dict[str, Any], seed: int = 0) -> SliceStore:
    """A store of 2x2 pixels: random images, liver everywhere, tumour of 0, 64, 128 and 255."""
    rng = np.random.default_rng(seed)
    parts = []
    for case in cases:
        count = len(case['slices'])
        arrays = {
            'images': rng.integers(0, 256, (count, 2, 2)).astype(np.uint8),
            'liver': np.tile(np.array([[255, 255], [128, 255]], np.uint8), (count, 1, 1)),
            'tumor': np.tile(np.array([[0, 64], [128, 255]], np.uint8), (count, 1, 1)),
        }
        parts.append(folder / 'parts' / case['name'])
        write_part(parts[-1], arrays, case, SETTINGS, None)
    write_store(folder / 'store', SETTINGS, 'one per volume', [], cases, parts, folder / 'parts')
    return SliceStore(folder / 'store')


@pytest.fixture
def store(tmp_path: Path) -> SliceStore:
    return make_store(tmp_path, describe('volume-0', [3, 4]), describe('volume-1', []), describe('volume-7', [1], 'Bo'))


def test_rows_go_case_by_case_and_know_their_slice(store):
    assert len(store) == 3
    rows = [(row.case, row.patient, row.index, row.liver_area, row.tumor_area) for row in store.rows]
    assert rows == [('volume-0', 'Ann', 3, 30, 3), ('volume-0', 'Ann', 4, 40, 4), ('volume-7', 'Bo', 1, 10, 1)]
    assert store.contents['volume-7'] == 'hash of volume-7'
    assert store.tumor_mm3 == {'volume-0': 17.5, 'volume-1': 0.0, 'volume-7': 2.5}


def test_images_come_in_the_order_asked_for(store):
    first, second, third = store.images(np.arange(3))
    assert store.images(np.array([2, 0, 2])).tolist() == [third.tolist(), first.tolist(), third.tolist()]
    assert store.images(np.array([1])).tolist() == [second.tolist()]
    assert store.images(np.array([], int)).shape == (0, 2, 2)
    assert store.images(np.arange(3)).dtype == np.uint8


@pytest.mark.parametrize(
    ('target', 'mask'),
    [
        ('tumor', [[0, 64], [128, 255]]),
        ('liver_or_tumor', [[255, 255], [128, 255]]),
        ('liver', [[255, 191], [0, 0]]),  # what of the liver is not tumour
    ],
)
def test_targets(store, target, mask):
    assert store.masks(np.array([0, 2]), target).tolist() == [mask, mask]


def test_liver_without_tumour_never_falls_below_nothing(tmp_path):
    arrays = {'images': np.zeros((1, 2, 2), np.uint8), 'liver': np.full((1, 2, 2), 63, np.uint8)}
    arrays['tumor'] = np.full((1, 2, 2), 64, np.uint8)  # rounded up where the liver was rounded down
    case = describe('volume-0', [0])
    write_part(tmp_path / 'part', arrays, case, SETTINGS, None)
    write_store(tmp_path / 'store', SETTINGS, 'one per volume', [], [case], [tmp_path / 'part'], tmp_path / 'working')
    assert not SliceStore(tmp_path / 'store').masks(np.array([0]), 'liver').any()


def test_the_manifest_is_strict_json_with_a_line_for_each_slice(store):
    text = (store.path / 'manifest.json').read_text()
    assert json.loads(text, parse_constant=pytest.fail) == store.manifest
    assert store.manifest['slices'] == 3
    assert store.manifest['settings'] == SETTINGS
    lines = [line.strip().rstrip(',') for line in text.splitlines()]
    for case in store.manifest['cases']:
        for entry in case['slices']:
            assert json.dumps(entry) in lines
    assert max(map(len, lines)) < 120


@pytest.mark.parametrize('patient', ['<0>', '"slices": "<1>"', 'Zoë\n, "x": 1'])
def test_odd_names_of_patients_survive(tmp_path, patient):
    store = make_store(tmp_path, describe('volume-0', [3], patient), describe('volume-1', [5], patient))
    assert [(row.index, row.patient) for row in store.rows] == [(3, patient), (5, patient)]


def test_the_digest_is_of_the_content_and_not_of_the_place(tmp_path):
    first = make_store(tmp_path / 'a', describe('volume-0', [3]))
    assert make_store(tmp_path / 'b', describe('volume-0', [3])).digest == first.digest
    assert make_store(tmp_path / 'c', describe('volume-0', [4])).digest != first.digest
    assert make_store(tmp_path / 'd', describe('volume-0', [3], 'Bo')).digest != first.digest


@pytest.mark.parametrize('name', ['images', 'liver', 'tumor'])
@pytest.mark.parametrize('damage', ['missing', 'empty', 'cut', 'garbage', 'archive', 'other shape', 'other type'])
def test_a_damaged_array_is_refused_with_what_to_do(store, name, damage):
    path = store.path / f'{name}.npy'
    content = path.read_bytes()
    path.unlink()
    if damage == 'archive':
        with open(path, 'wb') as file:
            np.savez(file, np.zeros((3, 2, 2), np.uint8))
    elif damage == 'other shape':
        np.save(path, np.zeros((2, 2, 2), np.uint8))
    elif damage == 'other type':
        np.save(path, np.zeros((3, 2, 2), np.float32))
    elif damage != 'missing':
        path.write_bytes({'empty': b'', 'cut': content[:-1], 'garbage': b'x' * len(content)}[damage])
    with pytest.raises(UserError, match='delete the folder and prepare it again') as refusal:
        SliceStore(store.path)
    assert str(store.path) in str(refusal.value)


@pytest.mark.parametrize(
    ('content', 'said'),
    [
        ('', 'cannot be read'),
        ('{"format": 1', 'cannot be read'),
        ('[]', 'format None; expected 2'),
        ('{}', 'format None; expected 2'),
        ('{"format": 1}', 'format 1; expected 2'),
        ('{"format": 2}', "damaged slice store .*'cases'"),
        ('{"format": 2, "cases": [{"name": "volume-0"}]}', "damaged slice store .*'slices'"),
        ('{"format": 2, "cases": []}', "damaged slice store .*'settings'"),
    ],
)
def test_a_damaged_manifest_is_refused(store, content, said):
    (store.path / 'manifest.json').write_text(content)
    with pytest.raises(UserError, match=said):
        SliceStore(store.path)


def test_no_store_says_how_to_make_one(tmp_path):
    with pytest.raises(UserError, match='no slice store there; make it with `liver-jax prepare`'):
        SliceStore(tmp_path / 'nowhere')
    with pytest.raises(UserError, match='no slice store there'):
        read_manifest(tmp_path)


def test_a_part_is_read_only_whole(tmp_path):
    make_store(tmp_path, describe('volume-0', [3]))
    part, nothing = tmp_path / 'parts' / 'volume-0', {'settings': {}, 'case': {}}
    assert read_part(part) == {'settings': SETTINGS, 'case': describe('volume-0', [3])}
    assert read_part(tmp_path / 'parts' / 'volume-1') == nothing
    (part / 'liver.npy').unlink()
    assert read_part(part) == nothing


def test_writing_a_part_again_replaces_it(tmp_path):
    make_store(tmp_path / 'first', describe('volume-0', [3]))
    part = tmp_path / 'first' / 'parts' / 'volume-0'
    (part / 'stale').touch()
    shutil.rmtree(tmp_path / 'first' / 'store')
    assert [row.index for row in make_store(tmp_path / 'first', describe('volume-0', [8])).rows] == [8]
    assert not (part / 'stale').exists()


@pytest.mark.parametrize('row', [-1, 3])
def test_a_row_outside_the_store_is_an_error_in_memory_used_again_too(store, row):
    with pytest.raises(IndexError):
        store.images(np.array([0, row]), Buffers())
