"""Every reading of a tiny test set as a fraction worked by hand."""

import numpy as np
import pytest

from liver_jax.data.store import SliceRow
from liver_jax.evaluation.panel import SliceCount, count_slice, counts_of_scores, mean_panel, panel_rows, patient_dice
from liver_jax.evaluation.scores import ImageScores, summarise
from liver_jax.metrics.overlap import Counts

# Patient p: case a with slices 2/5 and 1/1 with tumour, and one without where 3 pixels are marked; case b with one of
# 0/4 (4 missed). Patient q: case c, free of tumour, nothing marked. Case d of q: free of tumour, 2 marked.
NETWORK = [
    SliceCount('a', 'p', True, 'network', 'unet', 1, 2, 1),
    SliceCount('a', 'p', True, 'network', 'unet', 4, 0, 0),
    SliceCount('a', 'p', False, 'network', 'unet', 0, 3, 0),
    SliceCount('b', 'p', True, 'network', 'unet', 0, 0, 4),
    SliceCount('c', 'q', False, 'network', 'unet', 0, 0, 0),
    SliceCount('d', 'q', False, 'network', 'unet', 0, 2, 0),
]
# At native resolution the lesion of the first slice is found whole; a lesion of b has vanished from both sides.
NATIVE = [
    SliceCount('a', 'p', True, 'native', 'unet', 8, 0, 0),
    SliceCount('b', 'p', True, 'native', 'unet', 0, 0, 0),
]
EXPECTED = {
    # (average, resolution, slices): left out, one, zero
    ('image', 'network', 'tumor'): (7 / 15, 7 / 15, 7 / 15),
    ('image', 'network', 'all'): ((2 / 5 + 1) / 5, (2 / 5 + 1 + 1) / 6, (2 / 5 + 1) / 6),
    ('case', 'network', 'tumor'): ((10 / 13) / 2, (10 / 13) / 2, (10 / 13) / 2),
    ('case', 'network', 'all'): ((10 / 16) / 3, (10 / 16 + 1) / 4, (10 / 16) / 4),
    ('pooled', 'network', 'tumor'): (10 / 17, 10 / 17, 10 / 17),
    ('pooled', 'network', 'all'): (10 / 22, 10 / 22, 10 / 22),
    ('image', 'native', 'tumor'): (1, 1, 1 / 2),
    ('case', 'native', 'tumor'): (1, 1, 1 / 2),
    ('pooled', 'native', 'tumor'): (1, 1, 1),
    ('image', 'native', 'all'): (1, 1, 1 / 2),
    ('case', 'native', 'all'): (1, 1, 1 / 2),
    ('pooled', 'native', 'all'): (1, 1, 1),
}


def test_every_reading_by_hand():
    rows = panel_rows(NETWORK + NATIVE, 'tumor', complete=True)
    assert len(rows) == 3 * 2 * 2 * 3
    assert {(row['target'], row['model']) for row in rows} == {('tumor', 'unet')}
    for reading, values in EXPECTED.items():
        found = {
            row['empty_rule']: row['dice']
            for row in rows
            if (row['average'], row['resolution'], row['slices']) == reading
        }
        assert found == pytest.approx(dict(zip(('left_out', 'one', 'zero'), values, strict=True)), abs=1e-12), reading


def test_slices_that_are_not_all_make_no_rows_for_all():
    rows = panel_rows(NETWORK, 'tumor', complete=False)
    assert {row['slices'] for row in rows} == {'tumor'}


def test_nothing_at_all_is_undefined_one_or_zero():
    rows = panel_rows(NETWORK[4:5], 'tumor', complete=True)
    found = {(row['average'], row['empty_rule']): row['dice'] for row in rows if row['slices'] == 'all'}
    for average in ('image', 'case', 'pooled'):
        assert np.isnan(found[average, 'left_out'])
        assert (found[average, 'one'], found[average, 'zero']) == (1, 0)
    assert all(np.isnan(row['dice']) for row in rows if row['slices'] == 'tumor')


def test_dice_by_patient_is_the_mean_over_cases():
    assert patient_dice(NETWORK, 'unet', 'network', 'tumor') == pytest.approx({'p': (10 / 13 + 0) / 2})
    assert patient_dice(NETWORK, 'unet', 'network', 'all') == pytest.approx({'p': (10 / 16 + 0) / 2, 'q': 0})
    assert np.isnan(patient_dice(NETWORK[4:5], 'unet', 'network', 'all')['q'])


def test_a_slice_is_counted_for_every_model():
    reference = np.array([[True, True, False, False]])
    marked = np.array([[True, False, True, True]])
    found = count_slice('a', 'p', True, 'native', reference, {'unet': marked, 'all_zero': np.zeros_like(marked)})
    assert [count[4:] for count in found] == [('unet', 1, 2, 1), ('all_zero', 0, 0, 2)]


def test_counts_of_prepared_slices_give_the_scores_of_the_table():
    rows = [SliceRow('a', 'p', 4, 9, 3), SliceRow('a', 'p', 5, 9, 1), SliceRow('b', 'q', 1, 9, 0)]
    counts = Counts(np.array([1, 4, 0]), np.array([2, 0, 0]), np.array([1, 0, 0]), np.array([5, 5, 9]))
    scores = ImageScores(rows, counts, np.ones(3))
    panel = panel_rows(counts_of_scores(scores, 'unet'), 'tumor', complete=True)
    found = {row['average']: row['dice'] for row in panel if (row['slices'], row['empty_rule']) == ('all', 'left_out')}
    assert found == pytest.approx({name: summarise(scores)[f'dice_{name}'] for name in ('image', 'case', 'pooled')})


def test_panels_of_seeds_are_averaged_row_by_row():
    panels = [[{'model': 'unet', 'dice': dice}] for dice in (0.2, 0.4, float('nan'))]
    assert mean_panel(panels) == [{'model': 'unet', 'dice': pytest.approx(0.3)}]
