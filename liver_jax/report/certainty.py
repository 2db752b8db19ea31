"""How sure the numbers are: paired differences by patient, every pair of networks on its own, calibration."""

from collections.abc import Mapping, Sequence
from typing import Any

from liver_jax.report.charts import Chart
from liver_jax.report.figures import ON_WHITE
from liver_jax.report.findings import Findings
from liver_jax.report.markup import escape, finite, grid_table, number, pairs_table, section
from liver_jax.report.plots import legend
from liver_jax.report.tables import display_name

_TICKS = (0, 0.2, 0.4, 0.6, 0.8, 1)


def verdict(results: Mapping[str, Any]) -> str:
    """Whether one network is better, in words; nothing for a single network."""
    paired = results.get('paired')
    if not paired:
        return ''
    return (
        f'<p class="verdict" role="note"><strong>Is one better?</strong> {escape(_sentence(paired["verdict"]))} '
        f'<small>{escape(paired["metric"])}.</small></p>'
    )


def by_patient(findings: Findings) -> str:
    """The section of scores per patient: each network with its interval, the paired statistics, pairs on their own."""
    results = findings.results
    grid = [['', 'Mean', '95 % interval', 'Patients']]
    for model, found in results['patient_dice'].items():
        grid.append([display_name(model), number(found['mean']), _interval(found), f'{found["patients"]}'])
    body = grid_table(grid, 'Dice per patient')
    if paired := results.get('paired'):
        body += _paired(paired, findings.patients)
    if len(results.get('runs', ())) > 1:
        body += _each_pair(findings)
    metric = next(iter(results['patient_dice'].values()))['metric']
    lead = f'{escape(metric)}: the strictest reading that these numbers allow. The patient is the unit, not the slice.'
    return section('patients', 'Dice per patient', body, lead)


def calibration(results: Mapping[str, Any]) -> str:
    """The section of reliability diagram, errors, temperature, and what else was fitted to validation."""
    found = {display_name(model): values for model, values in results['calibration'].items()}
    grid = [['', 'ECE', 'Brier', 'Temperature', 'ECE with it']]
    for name, values in found.items():
        temperature, scaled = number(values['temperature'], '.2f'), values['with_temperature'].get('ece')
        grid.append([name, number(values['ece']), number(values['brier']), temperature, number(scaled)])
    fitted = [['', 'Threshold', 'Smallest lesion, mm³', 'Dice on validation']]
    for model, seeds in results['fitted'].items():
        runs = [run for folds in seeds for run in folds]
        fields = (('threshold', '.2f'), ('min_mm3', '.0f'), ('val_dice', '.4f'))
        fitted.append([display_name(model), *(_range([run.get(key) for run in runs], style) for key, style in fields)])
    body = (
        f'<div class="tables"><figure class="square">{legend(list(found))}'
        f'<figcaption>Reliability on the test set</figcaption>{_reliability(found)}</figure>'
        f'<div>{grid_table(grid, "Calibration of the networks")}'
        f'<h3>Fitted to validation, and to nothing else</h3>{grid_table(fitted, "What was fitted to validation")}</div>'
        '</div>'
    )
    rule = next(iter(found.values())).get('rule', '')
    lead = 'Whether a pixel is tumour as often as the network says. ' + escape(_sentence(str(rule)))
    return section('calibration', 'Calibration', body, lead)


def _paired(paired: Mapping[str, Any], patients: Mapping[str, str]) -> str:
    left_out = [patients[patient] for patient in paired['left_out']]
    facts = {
        'mean difference': f'{number(paired["mean"], "+.4f")} ({paired["of"]})',
        '95 % interval of it (BCa bootstrap over patients)': _interval(paired, '+.4f'),
        'Wilcoxon’s signed-rank test, two-sided': f'p = {number(paired["p_value"], ".3g")}',
        'effect size: matched-pairs rank-biserial correlation': number(paired.get('effect_size'), '+.2f'),
        'effect size: Cohen’s d of the differences': number(paired.get('cohens_dz'), '+.2f'),
        'patients': f'{paired["patients"]}',
        **({'left out, undefined in one of the networks': ', '.join(left_out)} if left_out else {}),
    }
    seeds = paired.get('mean_by_seed', ())
    if len(seeds) > 1:
        facts['mean difference of each seed'] = ', '.join(number(mean, '+.4f') for mean in seeds)
    grid = [['Patient', paired['of']]]
    ordered = sorted(paired['differences'].items(), key=lambda pair: pair[1])
    grid += [[patients[patient], number(value, '+.4f')] for patient, value in ordered]
    return (
        f'<h3>Paired by patient: {escape(paired["of"])}</h3>{pairs_table(facts)}'
        f'<details><summary>The difference of every patient</summary>{grid_table(grid, "Difference by patient")}'
        '</details>'
    )


def _each_pair(findings: Findings) -> str:
    models = list(findings.results['models'])
    grid = [['', *(f'{display_name(model)}, {what}' for model in models for what in ('Dice per case', 'step'))]]
    for run, pair in zip(findings.results['runs'], findings.trained, strict=True):
        cells = [(run['models'][model].get('dice_case'), run['best_step'][model]) for model in models]
        grid.append([pair.title, *(word for dice, step in cells for word in (number(dice), f'{step:,}'))])
    return '<h3>Every pair on its own</h3>' + grid_table(grid, 'Every pair on its own', 'cases')


def _reliability(found: Mapping[str, Mapping[str, Any]]) -> str:
    """The bins with pixels as marks, joined; the diagonal is perfect."""
    words = '; '.join(
        f'{name}: ' + ', '.join(f'{each["confidence"]:.2f} is {each["frequency"]:.2f}' for each in _full(values))
        for name, values in found.items()
    )
    chart = Chart('Reliability', f'Probability and how often it is so. {words}.', (0, 1), (0, 1), 320)
    chart.axis_x(_TICKS, 'mean probability in the bin')
    chart.axis_y(_TICKS)
    chart.line([(0, 0), (1, 1)], '#6b7785', 1)
    for name, values in found.items():
        points = [(each['confidence'], each['frequency']) for each in _full(values)]
        chart.line(points, ON_WHITE[name])
        for each, point in zip(_full(values), points, strict=True):
            chart.mark(point, name, f'{name}: {point[0]:.3f} is {point[1]:.3f}, {each["count"]:,} pixels')
    return chart.svg()


def _full(values: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return [each for each in values['bins'] if each['count']]


def _range(values: Sequence[Any], style: str) -> str:
    """One number, or from the lowest to the highest of several runs."""
    shown = [format(value, style) for value in sorted(value for value in values if finite(value))]
    return number(None) if not shown else shown[0] if shown[0] == shown[-1] else f'{shown[0]} to {shown[-1]}'


def _interval(found: Mapping[str, Any], style: str = '.4f') -> str:
    if not finite(found['low']) or not finite(found['high']):
        return 'none: too few patients'
    return f'{found["low"]:{style}} to {found["high"]:{style}}'


def _sentence(words: str) -> str:
    return f'{words[:1].upper()}{words[1:]}.' if words else ''
