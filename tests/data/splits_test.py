"""Splits: no patient on two sides, every slice once, the same again from the same seed."""

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from liver_jax.config import SplitConfig
from liver_jax.data.splits import PARTS, Split, load_or_make_split, make_split, read_split, write_split
from liver_jax.data.store import SliceStore
from liver_jax.errors import UserError

BY_PATIENT = SplitConfig('patient', (0.7, 0.15, 0.15), 0, 0, False, 0)
BY_SLICE = SplitConfig('slice', (0.7, 0.15, 0.15), 0, 0, False, 0)

SEEDS = st.integers(0, 2**32)
FRACTIONS = st.tuples(*[st.integers(1, 100)] * 3).map(lambda parts: tuple(part / sum(parts) for part in parts))
# Slices of each case, case by case of each patient.
PATIENTS = st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=3), min_size=3, max_size=15)


def make_store(folder: Path, patients: list[list[int]]) -> SliceStore:
    """A store of single pixels; the cases of different patients take turns, as in LiTS."""
    counts = [(f'p{p}', c, slices) for p, cases in enumerate(patients) for c, slices in enumerate(cases)]
    cases = [
        {
            'name': f'volume-{number}',
            'patient': patient,
            'slices': [{'slice': 5 + k, 'liver_mm2': 1.0, 'tumor_mm2': 1.0} for k in range(slices)],
        }
        for number, (patient, _, slices) in enumerate(sorted(counts, key=lambda count: count[1]))
    ]
    folder.mkdir(exist_ok=True)
    for name in ('images', 'liver', 'tumor'):
        np.save(folder / f'{name}.npy', np.zeros((sum(count[2] for count in counts), 1, 1), np.uint8))
    (folder / 'manifest.json').write_text(json.dumps({'format': 2, 'settings': {'image_size': 1}, 'cases': cases}))
    return SliceStore(folder)


@pytest.fixture
def store(tmp_path: Path) -> SliceStore:
    """Twenty patients, every other with two cases, three slices each."""
    return make_store(tmp_path / 'store', [[3] * (1 + p % 2) for p in range(20)])


def patients_of(store: SliceStore, split: Split) -> dict[str, set[str]]:
    return {part: {store.rows[row].patient for row in rows} for part, rows in split.rows.items()}


def as_lists(split: Split) -> dict[str, list[int]]:
    return {part: rows.tolist() for part, rows in split.rows.items()}


@given(patients=PATIENTS, fractions=FRACTIONS, seed=SEEDS, by=st.sampled_from(['patient', 'slice']))
@settings(max_examples=60, deadline=None, database=None)
def test_every_slice_is_in_one_part_and_a_patient_split_parts_patients(patients, fractions, seed, by):
    with tempfile.TemporaryDirectory() as folder:
        store = make_store(Path(folder), patients)
        split = make_split(store, SplitConfig(by, fractions, 0, 0, False, seed))
        write_split(Path(folder, 'split.json'), split, store)
        assert as_lists(read_split(Path(folder, 'split.json'), store)) == as_lists(split)
    assert tuple(split.rows) == PARTS
    assert sorted(row for rows in split.rows.values() for row in rows.tolist()) == list(range(len(store)))
    assert all(len(rows) and (np.diff(rows) > 0).all() for rows in split.rows.values())
    if by == 'patient':
        groups = patients_of(store, split)
        assert sum(map(len, groups.values())) == len(set.union(*groups.values())) == len(patients)


def test_the_same_seed_gives_the_same_split_and_another_seed_another(store):
    for config in (BY_PATIENT, BY_SLICE):
        splits = [
            as_lists(make_split(store, SplitConfig(config.by, config.fractions, 0, 0, False, seed)))
            for seed in (0, 0, 1)
        ]
        assert splits[0] == splits[1] != splits[2]


@pytest.mark.parametrize(
    ('patients', 'fractions', 'sizes'),
    [
        (20, (0.7, 0.15, 0.15), [14, 3, 3]),
        (20, (0.5, 0.3, 0.2), [10, 6, 4]),
        (3, (0.98, 0.01, 0.01), [1, 1, 1]),
        (4, (0.98, 0.01, 0.01), [2, 1, 1]),
        (3, (0.01, 0.01, 0.98), [1, 1, 1]),
        (10, (0.01, 0.01, 0.98), [1, 1, 8]),
    ],
)
def test_sizes_follow_the_fractions_with_at_least_one_in_each(tmp_path, patients, fractions, sizes):
    store = make_store(tmp_path, [[1]] * patients)
    for by in ('patient', 'slice'):
        assert [
            len(rows) for rows in make_split(store, SplitConfig(by, fractions, 0, 0, False, 3)).rows.values()
        ] == sizes


def test_the_order_of_the_cases_does_not_decide_who_is_where(tmp_path):
    one = make_store(tmp_path / 'one', [[1]] * 9)
    two = make_store(tmp_path / 'two', [[2, 1], *[[1]] * 8])
    assert patients_of(one, make_split(one, BY_PATIENT)) == patients_of(two, make_split(two, BY_PATIENT))


def test_fewer_patients_than_parts_are_refused(tmp_path):
    store = make_store(tmp_path, [[5, 5], [5]])
    with pytest.raises(UserError, match=r'slices of 2 patients; expected at least 3 for train, val and test'):
        make_split(store, BY_PATIENT)
    assert make_split(store, BY_SLICE).counts(store)['train']['slices'] == 11


def test_fewer_slices_than_parts_are_refused(tmp_path):
    with pytest.raises(UserError, match='slices of 2 slices; expected at least 3'):
        make_split(make_store(tmp_path, [[1], [1]]), BY_SLICE)


def test_only_the_slice_split_warns(store):
    assert make_split(store, BY_PATIENT).warning == ''
    assert 'neighbouring slices of one patient lie on both sides' in make_split(store, BY_SLICE).warning


def test_counts_are_of_patients_cases_and_slices(tmp_path):
    store = make_store(tmp_path, [[2, 3], [4], [1, 1, 1]])
    counts = make_split(store, BY_PATIENT).counts(store)
    found = sorted(tuple(part.values()) for part in counts.values())
    assert found == [(1, 1, 4), (1, 2, 5), (1, 3, 3)]
    assert list(counts['val']) == ['patients', 'cases', 'slices']


def test_the_file_says_who_is_where_and_reads_back_alike(tmp_path, store):
    split = make_split(store, BY_PATIENT)
    write_split(tmp_path / 'split.json', split, store)
    values = json.loads((tmp_path / 'split.json').read_text())
    assert values['settings'] == {'by': 'patient', 'fractions': [0.7, 0.15, 0.15], 'seed': 0}
    case = values['test'][0]
    assert case['slices'] == [5, 6, 7]
    assert {case['patient'] for case in values['test']} == patients_of(store, split)['test']
    again = read_split(tmp_path / 'split.json', store)
    assert (again.settings, again.store, as_lists(again)) == (split.settings, split.store, as_lists(split))
    assert [path.name for path in tmp_path.glob('split*')] == ['split.json']


def test_a_split_once_made_is_read_again(tmp_path, store):
    first = load_or_make_split(tmp_path / 'split.json', store, BY_PATIENT)
    before = (tmp_path / 'split.json').stat().st_mtime_ns
    assert as_lists(load_or_make_split(tmp_path / 'split.json', store, BY_PATIENT)) == as_lists(first)
    assert (tmp_path / 'split.json').stat().st_mtime_ns == before


def test_a_split_made_with_other_settings_is_refused(tmp_path, store):
    load_or_make_split(tmp_path / 'split.json', store, BY_PATIENT)
    with pytest.raises(UserError, match=r"split\.json: made with .*'seed': 0.*; expected .*'seed': 9"):
        load_or_make_split(tmp_path / 'split.json', store, SplitConfig('patient', (0.5, 0.25, 0.25), 0, 0, False, 9))


def test_an_edited_split_with_a_patient_on_both_sides_is_refused(tmp_path, store):
    path = tmp_path / 'split.json'
    write_split(path, make_split(store, BY_PATIENT), store)
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, 'test': values['train']}))
    with pytest.raises(UserError, match=r'is in train and in test; expected disjoint parts'):
        read_split(path, store)
    path.write_text(json.dumps({**values, 'val': []}))
    with pytest.raises(UserError, match='a part without slices'):
        read_split(path, store)


def test_the_split_of_another_store_is_refused(tmp_path, store):
    write_split(tmp_path / 'split.json', make_split(store, BY_PATIENT), store)
    other = make_store(tmp_path / 'other', [[3]] * 20)
    with pytest.raises(UserError, match=r'split\.json: made for another slice store than .*other'):
        read_split(tmp_path / 'split.json', other)


@pytest.mark.parametrize('damage', ['{', '[]', '{}', 'no part', 'no settings', 'unknown case', 'unknown slice'])
def test_a_damaged_split_is_refused(tmp_path, store, damage):
    path = tmp_path / 'split.json'
    write_split(path, make_split(store, BY_PATIENT), store)
    values = json.loads(path.read_text())
    if damage == 'no part':
        del values['val']
    elif damage == 'no settings':
        del values['settings']
    elif damage == 'unknown case':
        values['val'][0]['case'] = 'volume-99'
    elif damage == 'unknown slice':
        values['val'][0]['slices'] = [99]
    path.write_text(damage if damage[0] in '[{' else json.dumps(values))
    with pytest.raises(UserError, match=r'split\.json: not a readable split'):
        read_split(path, store)
