"""Splits: no patient on two sides, every slice once, the same again from the same seed."""

import dataclasses
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from liver_jax.config import SplitConfig
from liver_jax.data.certificate import PARTS, SLICE_WARNING, read_record, write_split
from liver_jax.data.splits import Split, _patients, load_or_make_split, make_split, read_split
from liver_jax.data.store import SliceStore
from liver_jax.errors import UserError

BY_PATIENT = SplitConfig('patient', (0.7, 0.15, 0.15), 0, 0, False, 0)
STRATIFIED = SplitConfig('patient', (0.7, 0.15, 0.15), 0, 0, True, 0)
BY_SLICE = SplitConfig('slice', (0.7, 0.15, 0.15), 0, 0, False, 0)

SEEDS = st.integers(0, 2**32)
FRACTIONS = st.tuples(*[st.integers(1, 100)] * 3).map(lambda parts: tuple(part / sum(parts) for part in parts))
# Slices of each case, case by case of each patient.
PATIENTS = st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=3), min_size=3, max_size=15)


def make_store(folder: Path, patients: list[list[int]], burdens: Sequence[float] = (), **contents: str) -> SliceStore:
    """A store of single pixels, 2 mm apart; the cases of different patients take turns, as in LiTS.

    `burdens`: mm² of tumour in each slice, by patient. `contents`: hashes by case as in `volume_3='abc'`.
    """
    counts = [(f'p{p:02}', c, slices) for p, cases in enumerate(patients) for c, slices in enumerate(cases)]
    areas = dict(zip(sorted({patient for patient, _, _ in counts}), burdens, strict=False))
    cases = [
        {
            'name': f'volume-{number}',
            'patient': patient,
            'content_sha256': contents.get(f'volume_{number}', f'hash of {number}'),
            'spacing_mm': [2.0, 1.0, 1.0],
            'slices': [{'slice': 5 + k, 'liver_mm2': 1.0, 'tumor_mm2': areas.get(patient, 1.0)} for k in range(slices)],
        }
        for number, (patient, _, slices) in enumerate(sorted(counts, key=lambda count: count[1]))
    ]
    folder.mkdir(exist_ok=True)
    for name in ('images', 'liver', 'tumor'):
        np.save(folder / f'{name}.npy', np.zeros((sum(count[2] for count in counts), 1, 1), np.uint8))
    (folder / 'manifest.json').write_text(
        json.dumps({'format': 2, 'settings': {'image_size': 1}, 'patients': 'given', 'look_alikes': [], 'cases': cases})
    )
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
        write_split(Path(folder, 'split.json'), split)
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
    assert make_split(store, BY_SLICE).counts['train']['slices'] == 11


def test_fewer_slices_than_parts_are_refused(tmp_path):
    with pytest.raises(UserError, match='slices of 2 slices; expected at least 3'):
        make_split(make_store(tmp_path, [[1], [1]]), BY_SLICE)


def test_only_the_slice_split_warns(store):
    assert make_split(store, BY_PATIENT).warning == ''
    assert 'neighbouring slices of one patient lie on both sides' in make_split(store, BY_SLICE).warning


def test_counts_are_of_patients_cases_and_slices(tmp_path):
    store = make_store(tmp_path, [[2, 3], [4], [1, 1, 1]])
    counts = make_split(store, BY_PATIENT).counts
    found = sorted(tuple(part.values()) for part in counts.values())
    assert found == [(1, 1, 4), (1, 2, 5), (1, 3, 3)]
    assert list(counts['val']) == ['patients', 'cases', 'slices']


def test_the_file_says_who_is_where_and_reads_back_alike(tmp_path, store):
    split = make_split(store, BY_PATIENT)
    write_split(tmp_path / 'split.json', split)
    text = (tmp_path / 'split.json').read_text()
    values = json.loads(text)
    assert values['settings'] == {
        'by': 'patient', 'fractions': [0.7, 0.15, 0.15], 'folds': 0, 'fold': 0, 'stratify': False, 'seed': 0,
    }  # fmt: skip
    case = values['test'][0]
    assert case['slices'] == [5, 6, 7]
    assert case['content'] == f'hash of {case["case"].removeprefix("volume-")}'
    assert len([line for line in text.splitlines() if '"case"' in line]) == 30
    assert {case['patient'] for case in values['test']} == patients_of(store, split)['test']
    assert values['certificate'] == {
        'by': 'patient',
        'disjoint': True,
        'duplicates': [],
        'patients': {'train': 14, 'val': 3, 'test': 3},
        'patients_from': 'given',
        'alike_across_parts': [],
        'sentence': 'split by patient: 14/3/3 patients, no patient and no volume in two parts',
        'warning': '',
    }
    again = read_split(tmp_path / 'split.json', store)
    assert (again.settings, again.store, as_lists(again)) == (split.settings, split.store, as_lists(split))
    assert again.digest == split.digest == values['digest'] == read_record(tmp_path / 'split.json').digest
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


def test_the_split_of_another_store_is_refused(tmp_path, store):
    write_split(tmp_path / 'split.json', make_split(store, BY_PATIENT))
    other = make_store(tmp_path / 'other', [[3]] * 20)
    with pytest.raises(UserError, match=r'split\.json: made for another slice store than .*other'):
        read_split(tmp_path / 'split.json', other)


@pytest.mark.parametrize(
    ('field', 'value', 'said'),
    [
        ('patient', 'p99', r'patient of volume-\d+ is p99, but p\d\d in .*store'),
        ('content', 'abc', r'content of volume-\d+ is abc, but hash of \d+ in .*store'),
    ],
)
def test_a_forged_split_is_refused_by_what_the_store_knows(tmp_path, store, field, value, said):
    """Certificate and digest are made anew: nothing in the file itself is wrong."""
    split = make_split(store, BY_PATIENT)
    split.parts['val'][0] = dataclasses.replace(split.parts['val'][0], **{field: value})
    write_split(tmp_path / 'split.json', split)
    assert read_record(tmp_path / 'split.json').digest == split.digest
    with pytest.raises(UserError, match=rf'split\.json: {said}; delete it'):
        read_split(tmp_path / 'split.json', store)


@pytest.mark.parametrize(
    ('damage', 'said'),
    [
        ('{', 'not a readable split'),
        ('[]', 'not a readable split'),
        ('{}', 'not a readable split'),
        ('no part', 'not a readable split'),
        ('no settings', 'not a readable split'),
        ('no slices', r'not a readable split \(ValueError: a case without slices'),
        ('unknown case', 'slice 5 of volume-99 is not in'),
        ('unknown slice', 'slice 99 of volume-.* is not in'),
    ],
)
def test_a_damaged_split_is_refused(tmp_path, store, damage, said):
    path = tmp_path / 'split.json'
    write_split(path, make_split(store, BY_PATIENT))
    values = json.loads(path.read_text())
    if damage == 'no part':
        del values['val']
    elif damage == 'no settings':
        del values['settings']
    elif damage == 'no slices':
        values['val'][0]['slices'] = []
    elif damage == 'unknown case':
        values['val'][0]['case'] = 'volume-99'
    elif damage == 'unknown slice':
        values['val'][0]['slices'] = [99]
    path.write_text(damage if damage[0] in '[{' else json.dumps(values))
    with pytest.raises(UserError, match=rf'split\.json: {said}.*; delete it, it is made again from the seed'):
        read_split(path, store)


def with_folds(folds: int, fold: int, stratify: bool = True, seed: int = 0) -> SplitConfig:
    return SplitConfig('patient', (0.7, 0.15, 0.15), folds, fold, stratify, seed)


@given(patients=PATIENTS, folds=st.integers(3, 6), stratify=st.booleans(), seed=SEEDS)
@settings(max_examples=40, deadline=None, database=None)
def test_over_the_folds_every_patient_is_tested_once_and_validates_once(patients, folds, stratify, seed):
    with tempfile.TemporaryDirectory() as folder:
        store = make_store(Path(folder), patients)
        if len(patients) < folds:
            with pytest.raises(UserError, match=f'expected at least {folds} for split.folds={folds};'):
                make_split(store, with_folds(folds, 0, stratify, seed))
            return
        found = [
            patients_of(store, make_split(store, with_folds(folds, fold, stratify, seed))) for fold in range(folds)
        ]
    everyone = sorted({row.patient for row in store.rows})
    assert sorted(patient for parts in found for patient in parts['test']) == everyone
    assert all(sorted([*parts['train'], *parts['val'], *parts['test']]) == everyone for parts in found)
    assert max(len(parts['test']) for parts in found) - min(len(parts['test']) for parts in found) <= 1
    for number, parts in enumerate(found):
        assert parts['val'] == found[(number + 1) % folds]['test']


@given(burdens=st.lists(st.floats(0, 1e4), min_size=3, max_size=30), fractions=FRACTIONS, seed=SEEDS)
@settings(max_examples=60, deadline=None, database=None)
def test_stratified_parts_have_the_sizes_of_plain_ones_and_the_same_seed_the_same_split(burdens, fractions, seed):
    config = SplitConfig('patient', fractions, 0, 0, True, seed)
    with tempfile.TemporaryDirectory() as folder:
        store = make_store(Path(folder), [[1]] * len(burdens), burdens)
        split, again = make_split(store, config), make_split(store, config)
        plain = make_split(store, dataclasses.replace(config, stratify=False))
    assert as_lists(split) == as_lists(again)
    assert [len(rows) for rows in split.rows.values()] == [len(rows) for rows in plain.rows.values()]
    assert sorted(row for rows in split.rows.values() for row in rows.tolist()) == list(range(len(burdens)))


@pytest.mark.parametrize('seed', range(5))
def test_every_part_gets_its_share_of_each_block_of_burdens(tmp_path, seed):
    """12 patients as 6/3/3: three blocks of four by burden, from each two to train and one to val and test each."""
    burdens = [50, 1, 30, 11, 9, 70, 3, 100, 90, 20, 40, 60]
    store = make_store(tmp_path, [[1]] * 12, burdens)
    blocks = [{'p07', 'p08', 'p05', 'p11'}, {'p00', 'p10', 'p02', 'p09'}, {'p03', 'p04', 'p06', 'p01'}]
    found = patients_of(store, make_split(store, SplitConfig('patient', (0.5, 0.25, 0.25), 0, 0, True, seed)))
    assert [[len(found[part] & block) for part in PARTS] for block in blocks] == [[2, 1, 1]] * 3
    tested = patients_of(store, make_split(store, with_folds(4, 1, seed=seed)))['test']
    assert [len(tested & block) for block in blocks] == [1, 1, 1]


def test_burden_is_volume_summed_over_the_cases_of_a_patient(tmp_path):
    """Two small cases of p00 outweigh the one of p01 only together; thickness counts."""
    store = make_store(tmp_path, [[2, 2], [3], [1], [9]], [1.0, 1.0, 1.0, 0.0])
    assert store.tumor_mm3 == {'volume-0': 4.0, 'volume-1': 6.0, 'volume-2': 2.0, 'volume-3': 0.0, 'volume-4': 4.0}
    order, owner = _patients(store, by_tumor=True)
    assert order.tolist() == [0, 1, 2, 3]  # 8, 6, 2 and 0 mm³
    assert owner.tolist() == [0] * 2 + [1] * 3 + [2] + [3] * 9 + [0] * 2


def test_stratifying_brings_the_mean_burdens_closer(tmp_path):
    """Over forty seeds, with burdens as skewed as in LiTS."""
    burdens = np.random.default_rng(0).lognormal(3, 1.5, 60)
    store = make_store(tmp_path, [[1]] * 60, burdens.tolist())

    def spread(stratify: bool) -> float:
        splits = [make_split(store, SplitConfig('patient', (0.6, 0.2, 0.2), 0, 0, stratify, s)) for s in range(40)]
        return float(np.mean([np.ptp([burdens[split.rows[part]].mean() for part in PARTS]) for split in splits]))

    assert spread(True) < 0.6 * spread(False)


def test_six_patients_are_stratified_as_far_as_one_block_goes(tmp_path):
    store = make_store(tmp_path, [[1]] * 6, [1, 2, 3, 4, 5, 6])
    sizes = {part: len(each) for part, each in patients_of(store, make_split(store, STRATIFIED)).items()}
    assert sizes == {'train': 4, 'val': 1, 'test': 1}


def test_one_scan_as_two_patients_is_refused_with_both_names(tmp_path):
    same = {'volume_1': 'abc', 'volume_3': 'abc'}
    store = make_store(tmp_path / 'two', [[1]] * 5, **same)
    said = (
        r'volume-1 \(patient p01\) and volume-3 \(patient p03\) are the same scan; expected one patient, '
        r'give both the same in patients\.csv or remove one'
    )
    for config in (BY_PATIENT, STRATIFIED, with_folds(3, 0)):
        with pytest.raises(UserError, match=said):
            make_split(store, config)
    # As two scans of one patient they are on one side.
    one = make_store(tmp_path / 'one', [[1], [1, 1], [1], [1]], volume_1='abc', volume_4='abc')
    assert make_split(one, BY_PATIENT).certificate['duplicates'] == []


def test_a_split_by_slice_certifies_that_it_leaks(tmp_path):
    store = make_store(tmp_path, [[6], [6], [1]], volume_0='abc', volume_1='abc')
    certificate = make_split(store, BY_SLICE).certificate
    assert (certificate['by'], certificate['disjoint']) == ('slice', False)
    assert certificate['duplicates'] == [['volume-0', 'volume-1']]
    assert certificate['sentence'] == 'split by slice: 9/2/2 slices, 2 of 3 patients in more than one part'
    assert certificate['warning'] == SLICE_WARNING
    assert make_split(store, dataclasses.replace(BY_SLICE, folds=5, fold=2)).counts['test']['slices'] == 3


def test_the_fold_is_named(store):
    sentence = make_split(store, with_folds(5, 2)).certificate['sentence']
    assert sentence == ('split by patient (fold 2 of 0 to 4): 12/4/4 patients, no patient and no volume in two parts')


def test_what_the_store_says_of_patients_cannot_be_taken_out_of_the_file(store, tmp_path):
    path = tmp_path / 'split.json'
    write_split(path, make_split(store, BY_PATIENT))
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, 'patients_from': 'from a table that never was'}))
    with pytest.raises(UserError, match=r'says of patients what .* does not, it was edited'):
        read_split(path, store)
