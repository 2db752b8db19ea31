"""Pictures of the worst and the best cases, for paper and for readers in a hurry."""

import base64
import html
import io
import math

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from liver_jax.report.cases import Case
from liver_jax.report.findings import Findings
from liver_jax.report.markup import section
from liver_jax.report.panels import Panel, make_panel_figure
from liver_jax.report.plots import dice_in_words

CASES = 3  # of each kind


def examples(findings: Findings) -> str:
    """The section: of the worst and of the best cases the slice with most of the target."""
    worst, best = worst_and_best(findings.cases)
    if not worst:
        return section('examples', 'Worst and best cases', '<p>No case has a reference or a prediction.</p>')
    warning = findings.results['protocol'].get('warning') or ''
    kinds = {'Worst cases': worst, 'Best cases': best}
    figures = [_figure(title, cases, warning) for title, cases in kinds.items() if cases]
    lead = 'By mean Dice of the networks over the case; of each, the slice with most of the reference or predictions.'
    return section('examples', 'Worst and best cases', ''.join(figures), lead)


def worst_and_best(cases: list[Case]) -> tuple[list[Case], list[Case]]:
    """At most `CASES` of each, none in both, by mean Dice; without one where that is undefined, and 0 is never best."""
    ranked = sorted((case for case in cases if not math.isnan(case.mean_dice)), key=lambda case: case.mean_dice)
    count = min(CASES, (len(ranked) + 1) // 2)
    return ranked[:count], [case for case in ranked[count:][::-1] if case.mean_dice > 0][:count]


def _figure(title: str, cases: list[Case], warning: str) -> str:
    panels = [_panel(case) for case in cases]
    figure = make_panel_figure(title, panels, warning)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())
    file = io.BytesIO()
    picture.save(file, 'WEBP', quality=85, method=4)
    words = '; '.join(f'{panel.case}, slice {panel.slice_index}: ' + dice_in_words(panel.dice) for panel in panels)
    alt = html.escape(f'{title}, CT beside truth, predictions and disagreement. {words}.')
    source = f'data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}'
    width, height = picture.size
    return (
        f'<div class="scroll" tabindex="0"><img class="panels" src="{source}" alt="{alt}" width="{width}" '
        f'height="{height}"></div>'
    )


def _panel(case: Case) -> Panel:
    marked = case.truth.sum((1, 2))
    if not marked.any():
        marked = np.sum([masks.sum((1, 2)) for masks in case.predictions.values()], axis=0)
    at = int(marked.argmax())
    return Panel(
        image=case.images[at].astype(np.float32) / 255,
        truth=case.truth[at],
        predictions={name: masks[at] for name, masks in case.predictions.items()},
        case=case.name,
        slice_index=int(case.indices[at]),
        dice={name: float(values[at]) for name, values in case.slice_dice.items()},
        note=', '.join(f'{name} Dice of the case {dice:.3f}' for name, dice in case.dice.items()),
    )
