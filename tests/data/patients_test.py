"""Who is whom, and how sure, from given similarities."""

from pathlib import Path

import numpy as np
import pytest

from liver_jax.data import patients
from liver_jax.data.layouts import Case
from liver_jax.data.patient_table import ANATOMY, BY_CASE
from liver_jax.data.patients import describe_patients, find_patients


def cases(*owners):
    return [Case(f'v{k}', 'nifti', (Path('v'),), (), owner) for k, owner in enumerate(owners)]


def found(monkeypatch, pairs, count):
    alike = np.full((count, count), np.nan)
    for (first, second), value in pairs.items():
        alike[first, second] = alike[second, first] = value
    monkeypatch.setattr(patients, 'similarities', lambda *_: alike)
    signatures = [np.zeros(1) if any(k in pair for pair in pairs) else None for k in range(count)]
    return find_patients(cases(*[''] * count), signatures, ['x'] * count, ANATOMY)[0]


def test_what_is_given_is_taken_and_the_anatomy_not_asked():
    groups, alike = find_patients(cases('Ann', 'Bo', 'Ann'), [], [], 'from patients.csv')
    assert alike == []
    assert [(group.patient, group.cases, group.sure) for group in groups] == [
        ('Ann', ['v0', 'v2'], 'given'),
        ('Bo', ['v1'], 'given'),
    ]
    assert describe_patients(groups) == ''


def test_links_make_groups_and_the_weakest_says_how_sure(monkeypatch):
    # 0-2 and 2-3 are linked, so 0, 2 and 3 are one; 1 is like none; 4 could not be read
    pairs = {(0, 1): 0.1, (0, 2): 0.9, (0, 3): 0.2, (1, 2): 0.3, (1, 3): 0.0, (2, 3): 0.55}
    first, second, third = found(monkeypatch, pairs, 5)
    assert (first.patient, first.cases, first.similarity, first.sure) == ('v0', ['v0', 'v2', 'v3'], 0.55, 'uncertain')
    assert first.nearest == ('v1', 0.3)
    assert (second.cases, second.similarity, second.nearest, second.sure) == (['v1'], None, ('v2', 0.3), 'likely')
    assert (third.cases, third.nearest, third.sure) == (['v4'], None, 'unknown')


@pytest.mark.parametrize(('value', 'sure', 'count'), [(1.0, 'certain', 1), (0.7, 'likely', 1), (0.45, 'uncertain', 2)])
def test_how_sure(monkeypatch, value, sure, count):
    groups = found(monkeypatch, {(0, 1): value}, 2)
    assert [group.sure for group in groups] == [sure] * count
    words = describe_patients(groups)
    assert words.startswith('v0 may be of the patient of v1' if count == 2 else f'v0 and v1 are one patient ({sure}')


def test_the_weakest_link_says_how_sure_not_each_ones_nearest(monkeypatch):
    # two copies of one scan, two of another; only .67 holds them together
    pairs = {(0, 1): 1.0, (2, 3): 1.0, (0, 2): 0.67, (0, 3): 0.6, (1, 2): 0.6, (1, 3): 0.6}
    (group,) = found(monkeypatch, pairs, 4)
    assert (group.similarity, group.sure) == (0.67, 'likely')


def test_patients_given_without_a_table_are_compared_nonetheless(monkeypatch):
    alike = np.array([[np.nan, 0.67, 0.1], [0.67, np.nan, 0.45], [0.1, 0.45, np.nan]])
    monkeypatch.setattr(patients, 'similarities', lambda *_: alike)
    groups, pairs = find_patients(cases('v0', 'v1', 'v2'), [None] * 3, ['x'] * 3, BY_CASE)
    assert [group.sure for group in groups] == ['given'] * 3
    assert pairs == [('v0', 'v1', 0.67), ('v1', 'v2', 0.45)]
