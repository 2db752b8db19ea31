"""The reliability diagram: bins where they belong, gaps where there are no pixels."""

import numpy as np
import pytest
from matplotlib.colors import same_color
from PIL import Image

from liver_jax.report.figures import ON_WHITE
from liver_jax.report.reliability import draw_reliability, make_reliability_figure

NAN = float('nan')
UNET = {
    'bins': [
        {'confidence': 0.02, 'frequency': 0.01, 'count': 9000},
        {'confidence': NAN, 'frequency': NAN, 'count': 0},
        {'confidence': 0.9, 'frequency': 0.6, 'count': 50},
    ],
    'ece': 0.0123,
    'brier': 0.04,
    'temperature': 1.5,
}
RESUNET = {**UNET, 'temperature': NAN}


def test_points_are_the_bins_that_have_pixels():
    upper, lower = make_reliability_figure({'U-Net': UNET, 'ResU-Net': RESUNET}).axes
    diagonal, unet, resunet = upper.lines
    np.testing.assert_allclose(unet.get_xydata(), [[0.02, 0.01], [0.9, 0.6]])
    np.testing.assert_allclose(lower.lines[0].get_xydata(), [[0.02, 9000], [0.9, 50]])
    np.testing.assert_allclose(diagonal.get_xydata(), [[0, 0], [1, 1]])
    assert same_color(unet.get_color(), ON_WHITE['U-Net'])
    assert same_color(resunet.get_color(), ON_WHITE['ResU-Net'])
    assert unet.get_label() == 'U-Net: ECE 0.0123, Brier 0.0400, temperature 1.50'
    assert 'temperature' not in resunet.get_label()


@pytest.mark.parametrize('warning', ['', 'split by slice: these scores say little about new patients'])
def test_the_file_is_a_picture_and_carries_the_warning(tmp_path, warning):
    draw_reliability(tmp_path / 'figures' / 'reliability.png', {'U-Net': UNET}, warning)
    with Image.open(tmp_path / 'figures' / 'reliability.png') as picture:
        assert min(picture.size) > 300
    texts = [text.get_text().replace('\n', ' ') for text in make_reliability_figure({'U-Net': UNET}, warning).texts]
    assert texts == ([warning] if warning else [])
