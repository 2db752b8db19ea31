"""Tables and numbers as people read them."""

import pytest

from liver_jax.bench.table import figures, markdown, percent, rated, scaled


def test_a_table_is_markdown_with_aligned_columns():
    assert markdown(['one', 'n', '±'], [['a', '12.0', '±3 %'], ['longer', '5', '–']]) == (
        '| one    |    n |    ± |\n'
        '|:-------|-----:|-----:|\n'
        '| a      | 12.0 | ±3 % |\n'
        '| longer |    5 |    – |'
    )  # fmt: skip


@pytest.mark.parametrize(
    ('value', 'text'), [(12345.6, '12,346'), (99.96, '100.0'), (12.34, '12.3'), (1.234, '1.23'), (0.01234, '0.0123')]
)
def test_three_figures(value, text):
    assert figures(value) == text


@pytest.mark.parametrize(
    ('value', 'text'), [(7.77e6, '7.77 MB'), (412e12, '412 TB'), (0, '0 B'), (2048, '2.05 kB'), (None, '–')]
)
def test_prefixes(value, text):
    assert scaled(value, 'B') == text


def test_a_rate_with_half_its_spread():
    assert rated({'median': 10.0, 'lowest': 9.0, 'highest': 11.0}) == ('10.0', '±10 %')
    assert percent(0.456) == '46 %'
