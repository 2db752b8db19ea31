"""Panels: what a reader sees at a given pixel of a slice, legible text, and refusals."""

import io
import itertools
import math
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from liver_jax.report.figures import DOTS_PER_INCH, save_png
from liver_jax.report.panels import CELL, Panel, draw_panels, make_panel_figure

ORANGE, BLUE, GREEN = ((230, 159, 0), (86, 180, 233), (0, 158, 115))


def square(top: int, left: int, side: int, size: int = 64) -> np.ndarray:
    mask = np.zeros((size, size), bool)
    mask[top : top + side, left : left + side] = True
    return mask


def make_panel(**changes: Any) -> Panel:
    """A black slice whose masks overlap: U-Net is right of the truth, ResU-Net left of it."""
    fields: dict[str, Any] = {
        'image': np.zeros((64, 64), np.float32),
        'truth': square(20, 20, 12),
        'predictions': {'U-Net': square(20, 26, 12), 'ResU-Net': square(20, 14, 12)},
        'case': 'volume-4',
        'slice_index': 113,
        'dice': {'U-Net': 0.5, 'ResU-Net': math.nan},
        'note': 'lesion 144 px',
    }
    return Panel(**(fields | changes))


def render(figure: Figure) -> np.ndarray:
    """The figure's pixels [H, W, 3] in 0 to 255, at the scale that its transforms then speak of."""
    figure.set_dpi(DOTS_PER_INCH)
    file = io.BytesIO()
    figure.savefig(file, format='png', dpi=DOTS_PER_INCH)
    file.seek(0)
    return np.round(matplotlib.image.imread(file)[..., :3] * 255).astype(int)


def colour_at(pixels: np.ndarray, cell: Axes, row: float, column: float) -> np.ndarray:
    """The colour at a place in the slice; whole numbers are the middles of its pixels."""
    x, y = cell.transData.transform((column, row))
    colour: np.ndarray = pixels[pixels.shape[0] - 1 - int(y), int(x)]
    return colour


def share(colour: tuple[int, int, int], alpha: float) -> np.ndarray:
    """`colour` laid over black."""
    return np.array(colour) * alpha


def test_disagreement_shows_who_alone_predicts() -> None:
    figure = make_panel_figure('title', [make_panel()])
    pixels = render(figure)
    cell = figure.axes[4]
    np.testing.assert_allclose(colour_at(pixels, cell, 29, 35), share(ORANGE, 0.75), atol=2)
    np.testing.assert_allclose(colour_at(pixels, cell, 29, 16), share(BLUE, 0.75), atol=2)
    # Both predict nothing here, neither does the truth.
    assert colour_at(pixels, cell, 40, 25).tolist() == [0, 0, 0]


def test_agreement_is_not_coloured() -> None:
    same = {'U-Net': square(20, 26, 12), 'ResU-Net': square(20, 26, 12)}
    figure = make_panel_figure('title', [make_panel(predictions=same)])
    pixels = render(figure)
    assert colour_at(pixels, figure.axes[4], 29, 35).tolist() == [0, 0, 0]
    assert figure.axes[4].get_title() == 'disagreement   0 px'


def test_truth_and_predictions_are_translucent_and_outlined() -> None:
    figure = make_panel_figure('title', [make_panel()])
    pixels = render(figure)
    for cell, colour, column in ((figure.axes[1], GREEN, 25), (figure.axes[2], ORANGE, 35), (figure.axes[3], BLUE, 16)):
        np.testing.assert_allclose(colour_at(pixels, cell, 26, column), share(colour, 0.3), atol=2)
    # The right edge of U-Net's square lies between columns 37 and 38, away from the truth's outline.
    np.testing.assert_allclose(colour_at(pixels, figure.axes[2], 26, 37.5), ORANGE, atol=40)
    # The left edge of the truth, between columns 19 and 20, is white in every cell but the CT's.
    whiteness = [
        max(colour_at(pixels, cell, 22, column).min() for column in (19.4, 19.5, 19.6)) for cell in figure.axes
    ]
    assert whiteness[0] == 0
    assert min(whiteness[1:]) > 150


def test_ct_keeps_the_whole_slice_and_the_rest_is_magnified_where_the_lesion_is() -> None:
    lesion = square(50, 3, 3)
    figure = make_panel_figure(
        'title', [make_panel(truth=lesion, predictions={'U-Net': lesion, 'ResU-Net': square(0, 0, 0)})]
    )
    assert figure.axes[0].get_xlim() == (-0.5, 63.5)
    for cell in figure.axes[1:]:
        (left, right), (bottom, top) = cell.get_xlim(), cell.get_ylim()
        assert right - left == bottom - top == 20  # ceil(0.3 * 64)
        assert (left, top) == (-0.5, 40.5)  # Moved right into the slice; rows 50 to 52 in the middle.
    assert figure.axes[1].get_title() == 'truth   ×3.2'
    spread = square(0, 0, 2) | square(60, 60, 2)
    figure = make_panel_figure('title', [make_panel(truth=spread)])
    assert all(cell.get_xlim() == (-0.5, 63.5) for cell in figure.axes)


def test_titles_name_case_slice_network_and_dice() -> None:
    panels = [make_panel(), make_panel(slice_index=9, note='')]
    figure = make_panel_figure('Two slices', panels, 'slice split')
    assert [text.get_text() for text in figure.texts] == [
        'Two slices',
        'volume-4  ·  slice 113  ·  lesion 144 px',
        'volume-4  ·  slice 9',
        'slice split',
    ]
    assert [cell.get_title() for cell in figure.axes[:5]] == [
        'CT',
        'truth   ×1.7',
        'U-Net   Dice 0.500',
        'ResU-Net   Dice –',
        'disagreement   288 px',
    ]
    legend = figure.legends[0]
    assert [text.get_text() for text in legend.get_texts()] == [
        'truth (white outline)',
        'U-Net; disagreement: U-Net only',
        'ResU-Net; disagreement: ResU-Net only',
        'area magnified to the right',
    ]


@pytest.mark.parametrize('names', [['U-Net', 'ResU-Net'], ['ResU-Net']])
def test_no_text_is_clipped_or_overlaps(names: list[str]) -> None:
    panel = make_panel(
        case='a-long-name-of-a-series-in-a-hospital-archive-0001',
        note='a long remark ' * 9,
        predictions={name: square(20, 14, 12) for name in names},
    )
    figure = make_panel_figure('A title that goes on ' * 9, [panel, panel], 'A warning that goes on ' * 12)
    render(figure)
    drawn = [*figure.texts, *(cell.title for cell in figure.axes), *figure.legends, *figure.axes]
    boxes = [artist.get_window_extent() for artist in drawn]
    for box in boxes:
        assert min(box.x0, box.y0) >= 0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1
    for one, other in itertools.combinations(boxes, 2):
        assert not one.overlaps(other)


def test_png_has_equal_square_cells_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / 'made' / 'panels.png'
    path.parent.mkdir()
    path.write_text('an older file')
    narrow = make_panel(
        image=np.zeros((64, 40), np.float32),
        truth=square(20, 20, 12)[:, :40],
        predictions={'ResU-Net': square(20, 14, 12)[:, :40]},
    )
    draw_panels(path, 'title', [narrow, narrow])
    rows, columns = matplotlib.image.imread(path).shape[:2]
    assert columns == int((2 * 0.15 + 3 * CELL + 2 * 0.08) * DOTS_PER_INCH)
    assert rows > 2 * CELL * DOTS_PER_INCH
    assert [entry.name for entry in path.parent.iterdir()] == ['panels.png']
    figure = make_panel_figure('title', [narrow, narrow])
    render(figure)
    sizes = {tuple(np.round(cell.get_window_extent().size, 3)) for cell in figure.axes}
    assert sizes == {(242.0, 242.0)}
    # A network keeps its colour when it is drawn alone.
    np.testing.assert_allclose(colour_at(render(figure), figure.axes[2], 26, 16), share(BLUE, 0.3), atol=2)


def test_a_failed_write_keeps_the_older_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / 'panels.png'
    path.write_text('an older file')

    def fail_halfway(self: Figure, target: Path, **_: Any) -> None:
        Path(target).write_text('half')
        raise OSError('disk full')

    monkeypatch.setattr(Figure, 'savefig', fail_halfway)
    with pytest.raises(OSError, match='disk full'):
        save_png(Figure(), path)
    assert path.read_text() == 'an older file'
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_drawn_truly_is_refused() -> None:
    with pytest.raises(ValueError, match=r'volume-4, slice 113: U-Net is \(32, 32\), the image \(64, 64\)'):
        make_panel(predictions={'U-Net': square(0, 0, 4, size=32)})
    with pytest.raises(ValueError, match='no panels'):
        make_panel_figure('title', [])
    with pytest.raises(ValueError, match='no predictions'):
        make_panel_figure('title', [make_panel(predictions={})])
    one = make_panel(slice_index=5, predictions={'U-Net': square(0, 0, 4)})
    with pytest.raises(ValueError, match='slice 5: networks'):
        make_panel_figure('title', [make_panel(), one])
    three = {name: square(0, 0, 4) for name in 'abc'}
    with pytest.raises(ValueError, match='3 networks'):
        make_panel_figure('title', [make_panel(predictions=three)])
