"""The three kinds of chart of the page: learning curves, Dice by case, Dice against the size of lesions."""

import html
import math
from collections.abc import Sequence

import numpy as np

from liver_jax.report.cases import Case
from liver_jax.report.charts import MARKS, Chart, log_ticks, nice_ticks, running_mean
from liver_jax.report.figures import ON_WHITE
from liver_jax.report.findings import Trained
from liver_jax.report.markup import counted, volume

_MOST_POINTS = 1000  # of a line
_LINE = '#9aa5b1'
_CURVES = (
    ('train/loss', 'Training loss', True),
    ('val/loss', 'Validation loss', True),
    ('val/dice_image', 'Validation Dice, mean over images', False),
    ('val/dice_pooled', 'Validation Dice, pooled over pixels', False),
)


def learning_curves(trained: Sequence[Trained]) -> list[tuple[str, str]]:
    """Title and SVG of every curve that was recorded; of several pairs a thin line each, of one with its checkpoint."""
    charts = []
    for key, title, log in _CURVES:
        lines = [
            (name, points, pair.steps[name])
            for pair in trained
            for name, rows in pair.histories.items()
            if len(points := _series(rows, key, log))
        ]
        if lines:
            charts.append((title, _curve_chart(key, title, log, lines, several=len(trained) > 1)))
    return charts


def _curve_chart(key: str, title: str, log: bool, lines: Sequence[tuple[str, np.ndarray, int]], several: bool) -> str:
    """Of lines: network, points [N, 2], step of the checkpoint that was scored."""
    steps, values = (np.concatenate([points[:, axis] for _, points, _ in lines]) for axis in (0, 1))
    y = (float(values.min()) * 0.8, float(values.max()) * 1.25) if log else (0.0, 1.0)
    words = '; '.join(f'{name} ends at {points[-1, 1]:.3g}' for name, points, _ in lines)
    chart = Chart(title, f'Over {steps.max():,.0f} steps: {words}.', (0.0, float(steps.max())), y, 230, log_y=log)
    chart.axis_x(nice_ticks(0, float(steps.max()), 5), 'step')
    chart.axis_y(log_ticks(*y) if log else nice_ticks(0, 1, 5))
    for name, points, best in lines:
        noisy = len(points) > 60 and key == 'train/loss'
        smooth = np.column_stack([points[:, 0], running_mean(points[:, 1], max(1, len(points) // 20))])
        if noisy and not several:
            chart.line(_thinned(points), ON_WHITE[name], 1, faint=True)
        chart.line(_thinned(smooth if noisy else points), ON_WHITE[name], 1.2 if several else 2, faint=several)
        at = points[points[:, 0] == best]
        if len(at) and key.startswith('val/') and not several:
            chart.mark(tuple(at[0]), name, f'{name}: checkpoint of step {best:,}, {at[0, 1]:.4f}')
    return chart.svg()


def _thinned(points: np.ndarray) -> list[tuple[float, float]]:
    """Every k-th, so that a long training does not fill the page."""
    return [(x, y) for x, y in points[:: len(points) // _MOST_POINTS + 1].tolist()]


def case_chart(cases: list[Case]) -> str:
    """Dice of every case, the largest tumour on top, the networks of a case joined by a line."""
    ordered = sorted(enumerate(cases, 1), key=lambda pair: -pair[1].volume_ml)
    height = 60 + 26 * len(ordered)
    words = '; '.join(f'{case.name} {dice_in_words(case.dice)}' for _, case in ordered[:40])
    chart = Chart('Dice by case', words, (0.0, 1.0), (len(ordered) - 0.5, -0.5), height, left=146)
    chart.axis_x([0, 0.2, 0.4, 0.6, 0.8, 1], 'Dice of the case')
    for row, (number, case) in enumerate(ordered):
        left, y = chart.place(0, row)
        chart.text(left - 8, y + 4, f'{_short(case.name)} · {volume(case.volume_ml)} ml', 'end')
        known = {name: dice for name, dice in case.dice.items() if not math.isnan(dice)}
        if known:
            chart.line([(min(known.values()), row), (max(known.values()), row)], _LINE, 3)
        for at, (name, dice) in enumerate(known.items()):
            beside = (at - 0.5) * 0.22 if len(known) > 1 else 0  # equal scores must not hide each other
            chart.mark((dice, row + beside), name, f'{case.name}, {name}: {dice:.3f}', case_link(number, case, 0))
    return chart.svg()


def lesion_chart(cases: list[Case]) -> str:
    """Dice of every lesion against its diameter, the networks of a lesion joined by a line."""
    lesions = [(number, case, lesion) for number, case in enumerate(cases, 1) for lesion in case.lesions]
    if not lesions:
        return ''
    sizes = [lesion.diameter_mm for _, _, lesion in lesions]
    x = (min(sizes) * 0.85, max(sizes) * 1.15)
    small = [lesion for _, _, lesion in lesions if lesion.diameter_mm < 10]
    words = f'{counted(len(lesions), "lesion")} of {min(sizes):.1f} to {max(sizes):.1f} mm, {len(small)} below 10 mm'
    chart = Chart('Dice of lesions against their diameter', words, x, (-0.03, 1.03), 300, log_x=True)
    chart.axis_x(log_ticks(*x), 'longest axial diameter of the lesion, mm')
    chart.axis_y([0, 0.2, 0.4, 0.6, 0.8, 1])
    for number, case, lesion in lesions:
        values = list(lesion.dice.values())
        chart.line([(lesion.diameter_mm, min(values)), (lesion.diameter_mm, max(values))], _LINE, 1.5)
        for name, dice in lesion.dice.items():
            tip = f'{case.name}, lesion of {lesion.diameter_mm:.1f} mm, {name}: {dice:.3f}'
            chart.mark((lesion.diameter_mm, dice), name, tip, case_link(number, case, lesion.position))
    return chart.svg()


def legend(names: list[str]) -> str:
    """Which colour and mark is whose."""
    items = []
    for name in names:
        colour = ON_WHITE[name]
        mark = (
            f'<path d="M8 1l7 7l-7 7l-7 -7z" fill="{colour}"/>'
            if MARKS[name] == 'diamond'
            else f'<circle cx="8" cy="8" r="6" fill="{colour}"/>'
        )
        svg = f'<svg width="16" height="16" viewBox="0 0 16 16" aria-hidden="true">{mark}</svg>'
        items.append(f'<li>{svg} {html.escape(name)}</li>')
    return f'<ul class="legend">{"".join(items)}</ul>'


def case_link(number: int, case: Case, position: int) -> str:
    """The address, within the page, of a slice of the `number`-th case."""
    return f'#case={number}&slice={case.indices[position]}'


def dice_in_words(dice: dict[str, float]) -> str:
    """Of each network."""
    words = {name: 'undefined' if math.isnan(value) else f'{value:.2f}' for name, value in dice.items()}
    return ', '.join(f'{name} Dice {word}' for name, word in words.items())


def _series(rows: list[dict[str, float]], key: str, positive: bool) -> np.ndarray:
    """Steps and values [N, 2] without gaps; a step that occurs again, in a resumed run, replaces the earlier one."""
    values = {float(row['step']): float(row[key]) for row in rows if row.get(key) is not None}
    finite = {step: value for step, value in values.items() if math.isfinite(value)}
    return np.array([pair for pair in sorted(finite.items()) if pair[1] > 0 or not positive]).reshape(-1, 2)


def _short(name: str) -> str:
    return name if len(name) <= 12 else f'{name[:11]}…'
