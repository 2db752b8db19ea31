"""The split file, edited by hand in every way that would hide a leak: refused, and the case named."""

import json
import re

import pytest

from liver_jax.data.certificate import CasePart, Record, check_trained_on, read_record, write_split
from liver_jax.errors import UserError

SETTINGS = {'by': 'patient', 'fractions': [0.7, 0.15, 0.15], 'folds': 0, 'fold': 0, 'stratify': True, 'seed': 0}


def record(alike=(), **changed) -> Record:
    """Ann has two scans and trains, Bob validates, Eve is tested; `changed` replaces settings."""
    return Record(
        SETTINGS | changed,
        'store digest',
        {
            'train': [CasePart('volume-0', 'Ann', 'a0', (3, 4)), CasePart('volume-1', 'Ann', 'a1', (7,))],
            'val': [CasePart('volume-2', 'Bob', 'b', (1, 2))],
            'test': [CasePart('volume-3', 'Eve', 'e', (1,))],
        },
        'from the anatomy',
        alike,
    )


def test_certificate_and_counts_of_three_patients():
    assert record().certificate == {
        'by': 'patient',
        'disjoint': True,
        'duplicates': [],
        'patients': {'train': 1, 'val': 1, 'test': 1},
        'patients_from': 'from the anatomy',
        'alike_across_parts': [],
        'sentence': 'split by patient: 1/1/1 patients, no patient and no volume in two parts',
        'warning': '',
    }
    assert record().counts['train'] == {'patients': 1, 'cases': 2, 'slices': 3}


def test_scans_that_look_alike_in_two_parts_make_the_warning():
    alike = (('volume-0', 'volume-1', 0.9), ('volume-0', 'volume-3', 0.67), ('volume-2', 'volume-3', 0.45))
    doubtful = record((*alike, ('volume-0', 'volume-8', 0.8)))
    first, second = doubtful.certificate['alike_across_parts']
    assert first == 'volume-0 (train) and volume-3 (test) look alike (similarity 0.67)'
    assert 'volume-2 (val) and volume-3 (test)' in second
    assert doubtful.warning == f'perhaps no split by patient: {first}'
    assert record(alike[2:]).warning == ''
    assert record(alike, by='slice').certificate['alike_across_parts'] == []


def test_digest_is_of_the_content_and_not_of_the_layout_of_the_file(tmp_path):
    path = tmp_path / 'split.json'
    write_split(path, record())
    path.write_text(json.dumps(json.loads(path.read_text()), indent=4, sort_keys=True))
    assert read_record(path) == record()
    assert read_record(path).digest == record().digest
    assert record(seed=1).digest != record().digest


def move_slice(values):
    values['val'][0]['slices'] = [1]
    values['test'].append({'case': 'volume-2', 'patient': 'Bob', 'content': 'b', 'slices': [2]})


def copy_case(values):
    values['test'].append(values['train'][1])


def copy_renamed(values):
    values['test'].append({**values['train'][1], 'case': 'volume-9', 'patient': 'Zoe'})


def move_case(values):
    values['val'].append(values['train'].pop())


def move_patient(values):
    values['test'] += values.pop('val')
    values['val'] = values.pop('train')
    values['train'] = [values['test'].pop()]


def empty_part(values):
    values['val'] = []


def repeat_slice(values):
    values['test'][0]['slices'] = [1, 1]


def claim(values):
    values['certificate']['patients']['test'] = 100


def other_patient(values):
    values['train'][1]['patient'] = 'Zoe'
    values['certificate']['sentence'] = values['certificate']['sentence'].replace('1/1/1', '2/1/1')
    values['certificate']['patients']['train'] = 2


def other_seed(values):
    values['settings']['seed'] = 5


@pytest.mark.parametrize(
    ('edit', 'said'),
    [
        (move_slice, 'patient Bob is in val (volume-2) and in test (volume-2); expected disjoint parts'),
        (copy_case, 'patient Ann is in train (volume-0) and in test (volume-1); expected disjoint parts'),
        (copy_renamed, 'the same scan is in train (volume-1) and in test (volume-9); expected disjoint parts'),
        (move_case, 'patient Ann is in train (volume-0) and in val (volume-1); expected disjoint parts'),
        (move_patient, 'its digest does not hold for its cases, it was edited'),
        (empty_part, 'a part without slices; expected some in each'),
        (repeat_slice, 'slice 1 of volume-3 is there twice; expected disjoint parts'),
        (claim, 'its certificate does not hold for its cases, it was edited'),
        (other_patient, 'its digest does not hold for its cases, it was edited'),
        (other_seed, 'its digest does not hold for its cases, it was edited'),
    ],
)
def test_an_edited_file_is_refused(tmp_path, edit, said):
    path = tmp_path / 'split.json'
    write_split(path, record())
    values = json.loads(path.read_text())
    edit(values)
    path.write_text(json.dumps(values))
    with pytest.raises(UserError, match=re.escape(f'{path}: {said}; delete it, it is made again from the seed')):
        read_record(path)


def test_by_slice_a_patient_may_be_on_both_sides_but_no_slice(tmp_path):
    path = tmp_path / 'split.json'
    split = record(by='slice')
    split.parts['test'].append(CasePart('volume-2', 'Bob', 'b', (5,)))
    write_split(path, split)
    assert read_record(path) == split
    split.parts['test'].append(CasePart('volume-0', 'Ann', 'a0', (4,)))
    write_split(path, split)
    with pytest.raises(UserError, match='slice 4 of volume-0 is there twice'):
        read_record(path)


def test_no_file_is_said_so(tmp_path):
    with pytest.raises(UserError, match=r'split\.json: no split there; bring it back'):
        read_record(tmp_path / 'split.json')


def test_a_checkpoint_of_another_split_is_refused(tmp_path):
    check_trained_on(tmp_path, record(), record().digest)
    with pytest.raises(UserError, match='not the split that the checkpoint was trained on'):
        check_trained_on(tmp_path, record(), record(seed=1).digest)
    with pytest.raises(UserError, match='does not say on which split it was trained, another version made it'):
        check_trained_on(tmp_path, record(), '')
