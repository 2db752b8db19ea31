"""The sections of the page as HTML, made from findings. Everything that is not ours is escaped here."""

import html
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from liver_jax.models import DISPLAY_NAMES
from liver_jax.report.findings import Case, Findings
from liver_jax.report.lesions import RULE
from liver_jax.report.plots import case_chart, case_link, learning_curves, legend, lesion_chart
from liver_jax.report.tables import (
    SLICES,
    TARGETS,
    UNDEFINED,
    Column,
    Table,
    display_name,
    protocol_lines,
    score_cell,
    score_tables,
)

escape = html.escape
AVERAGES = (
    Column('dice_image', 'Mean over slices', '', 'image'),
    Column('dice_case', 'Mean over cases', '', 'case'),
    Column('dice_pooled', 'All pixels pooled', '', 'pooled'),
)
_WORST = 8  # lesions in the table


def section(name: str, title: str, body: str, lead: str = '') -> str:
    """A section with its heading; `name` is what links lead to."""
    lead = f'<p class="lead">{lead}</p>' if lead else ''
    return (
        f'<section id="{name}" aria-labelledby="{name}-title"><h2 id="{name}-title">{title}</h2>{lead}{body}</section>'
    )


def header(findings: Findings) -> str:
    """Title, what was compared on what, and the warning where there is one."""
    protocol = findings.results['protocol']
    names = ' and '.join(display_name(key) for key in findings.results['models'])
    slices = sum(len(case.indices) for case in findings.cases)
    patients = len({case.patient for case in findings.cases})
    facts = [
        ('Target', TARGETS.get(protocol['target'], protocol['target'])),
        ('Tested on', f'{slices:,} slices, {_count(len(findings.cases), "case")}, {_count(patients, "patient")}'),
        ('Slices', SLICES.get(protocol['slices'], protocol['slices'])),
        ('Split by', protocol['split']),
        ('Grid', f'{protocol["image_size"]}×{protocol["image_size"]} pixels'),
        ('Threshold', f'{protocol["threshold"]}'),
    ]
    listed = ''.join(f'<div><dt>{escape(name)}</dt><dd>{escape(str(value))}</dd></div>' for name, value in facts)
    warning = protocol.get('warning')
    banner = f'<p class="warning" role="note"><strong>Warning:</strong> {escape(warning)}.</p>' if warning else ''
    return (
        f'<header><p class="kicker">liver_jax report</p><h1>{escape(names)}: liver tumour segmentation in CT</h1>'
        f'{banner}<dl class="facts">{listed}</dl></header>'
    )


def headline(findings: Findings) -> str:
    """Dice by its three averages beside the baselines, with intervals where there are some, and every other table."""
    results = findings.results
    models, baselines = results['models'], results.get('baselines', {})
    averages = Table('Dice', '', AVERAGES, {display_name(k): v for k, v in {**models, **baselines}.items()})
    intervals = {display_name(k): v for k, v in _mapping(results.get('intervals')).items()}
    body = html_table(averages, intervals, 'headline')
    if panel := results.get('panel'):
        body += honest_panel(panel)
    tables = [
        f'<div><h3>{escape(table.title)}</h3>{html_table(table, intervals)}'
        f'<p class="note">{escape(table.caption)}</p></div>'
        for table in score_tables(results)
    ]
    body += f'<div class="tables">{"".join(tables)}</div>'
    lead = (
        'One network on one test set has as many Dice scores as there are ways to average. '
        'Read a number with its column, and beside the baseline that predicts nothing. '
        'Bold is the higher of the two networks; whether the difference means anything is another question.'
    )
    return section('scores', 'Dice, by what is averaged', body, lead)


def html_table(table: Table, intervals: Mapping[str, Any] | None = None, kind: str = '') -> str:
    """A table of scores; the best network of a column in bold, an interval below its score."""
    networks = [name for name in table.rows if name in ('U-Net', 'ResU-Net')]
    head = ''.join(
        f'<th scope="col">{escape(column.heading)} <small>{escape(column.average)}</small></th>'
        for column in table.columns
    )
    rows = []
    for name, scores in table.rows.items():
        cells = []
        for column in table.columns:
            best = column.average and len(networks) > 1 and _is_best(name, column.key, table.rows, networks)
            text = score_cell(scores, column)
            text = f'<b>{text}</b>' if best else text
            interval = _mapping((intervals or {}).get(name)).get(column.key)
            cells.append(f'<td>{text}{_interval(interval)}</td>')
        rows.append(f'<tr><th scope="row">{escape(name)}</th>{"".join(cells)}</tr>')
    return _scrolling(
        f'<table class="numbers {kind}"><caption class="unseen">{escape(table.title)}</caption>'
        f'<thead><tr><td></td>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    )


def honest_panel(panel: Sequence[Mapping[str, Any]]) -> str:
    """Every reading of Dice: a row per reading, a column per model; of each network the lowest and highest marked."""
    keys = ('target', 'average', 'resolution', 'slices', 'empty_rule')
    models = list(dict.fromkeys(str(row.get('model', '')) for row in panel))
    readings: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in panel:
        reading = tuple(str(row.get(key, UNDEFINED)) for key in keys)
        readings.setdefault(reading, {})[str(row.get('model', ''))] = row.get('dice')
    ends = {name: _ends([values.get(name) for values in readings.values()]) for name in models if name in DISPLAY_NAMES}
    head = ''.join(f'<th scope="col">{escape(key.replace("_", " "))}</th>' for key in keys)
    head += ''.join(f'<th scope="col" class="number">{escape(display_name(model))}</th>' for model in models)
    rows = []
    for reading, values in readings.items():
        cells = ''.join(f'<td>{escape(word.replace("_", " "))}</td>' for word in reading)
        for model in models:
            value = values.get(model)
            end = ends.get(model, {}).get(float(value or 0), '') if _finite(value) else ''
            mark = f' <small>{end}</small>' if end else ''
            cells += f'<td class="number">{format(value, ".4f") if _finite(value) else UNDEFINED}{mark}</td>'
        rows.append(f'<tr>{cells}</tr>')
    spread = ', '.join(
        f'{escape(display_name(name))} from {min(values):.3f} to {max(values):.3f}'
        for name, values in ends.items()
        if values
    )
    table = f'<table class="panel"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    return (
        '<h3>The honest panel</h3><p>The same predictions, read every way: Dice of '
        f'{spread or "nothing"}, depending on target, average, resolution, slices and the rule for empty masks.</p>'
        f'{_scrolling(table)}'
    )


def _ends(numbers: Sequence[Any]) -> dict[float, str]:
    """The lowest and the highest of the defined ones, in words."""
    defined = [number for number in numbers if _finite(number)]
    return {max(defined): 'highest', min(defined): 'lowest'} if defined else {}


def curves(findings: Findings) -> str:
    """Learning curves."""
    best = {display_name(key): int(values['best_step']) for key, values in findings.results['models'].items()}
    drawn = learning_curves(findings.histories, best)
    figures = ''.join(f'<figure><figcaption>{escape(title)}</figcaption>{svg}</figure>' for title, svg in drawn)
    monitor = escape(findings.config.train.monitor)
    body = f'{legend(list(findings.histories))}<div class="charts">{figures}</div>'
    lead = f'Marked: the checkpoint that was scored, the best by validation (<code>{monitor}</code>).'
    return section('training', 'Training', body if drawn else '<p>No history was recorded.</p>', lead)


def cases(findings: Findings) -> str:
    """Dice of every case and lesion, as charts, and as a table with a link to the slices."""
    names = list(findings.histories)
    lesions = lesion_chart(findings.cases)
    figures = f'<figure><figcaption>By case, the largest on top</figcaption>{case_chart(findings.cases)}</figure>'
    if lesions:
        figures += f'<figure><figcaption>By lesion</figcaption>{lesions}</figure>'
    false = '; '.join(
        f'{name} {sum(case.false[name] for case in findings.cases):,}' for name in findings.cases[0].predictions
    )
    body = (
        f'{legend(names)}<div class="charts wide">{figures}</div><p class="note">{escape(RULE)} '
        f'Predicted pieces that touch no lesion: {escape(false)}.</p>{_case_table(findings.cases, names)}'
        f'{_lesion_table(findings.cases, names)}'
    )
    return section('cases', 'Cases and lesions', body, 'Each mark and each name leads to its slices.')


def protocol(findings: Findings, command: str, config: Mapping[str, Any], versions: Mapping[str, str]) -> str:
    """What the numbers depend on, and how to have them again."""
    described = {**findings.results['protocol']}
    # Without what follows in words of the data: it may name cases, and so people.
    described['patients'] = re.split(r'[;(]', str(described.get('patients') or ''))[0].strip()
    lines = ''.join(f'<li>{escape(line)}</li>' for line in protocol_lines(described))
    certificate = _mapping(described.get('certificate'))
    facts = {
        'disjoint patients': 'yes' if certificate.get('disjoint') else 'no',
        'scans in two parts under two names': len(certificate.get('duplicates') or ()),
        'digest of the split': described.get('split_digest', ''),
    }
    body = f'<ul class="protocol">{lines}</ul><h3>Split certificate</h3>{_pairs(facts)}'
    body += f'<h3>To have these numbers again</h3><pre tabindex="0"><code>{escape(command)}</code></pre>'
    body += f'<h3>Versions that made this page</h3>{_pairs(versions)}'
    body += f'<details><summary>The whole config</summary>{_pairs(config)}</details>'
    return section('protocol', 'Protocol', body)


def _case_table(cases: list[Case], names: list[str]) -> str:
    order = sorted(enumerate(cases, 1), key=lambda pair: (math.isnan(pair[1].mean_dice), pair[1].mean_dice))
    head = ''.join(f'<th scope="col">{escape(name)}</th>' for name in names)
    rows = ''.join(
        f'<tr><th scope="row"><a href="{escape(case_link(number, case, _telling(case)))}">{escape(case.name)}</a></th>'
        f'<td>{escape(case.patient)}</td><td>{len(case.indices):,}</td><td>{len(case.lesions):,}</td>'
        f'<td>{case.volume_ml:,.2f}</td>{"".join(f"<td>{_dice(case.dice[name])}</td>" for name in names)}</tr>'
        for number, case in order
    )
    return '<h3>Cases, the worst first</h3>' + _scrolling(
        '<table class="numbers cases"><thead><tr><th scope="col">Case</th><th scope="col">Patient</th>'
        '<th scope="col">Slices</th><th scope="col">Lesions</th><th scope="col">Volume, ml</th>'
        f'{head}</tr></thead><tbody>{rows}</tbody></table>'
    )


def _lesion_table(cases: list[Case], names: list[str]) -> str:
    lesions = [(number, case, lesion) for number, case in enumerate(cases, 1) for lesion in case.lesions]
    lesions.sort(key=lambda each: (each[2].mean_dice, -each[2].volume_ml))
    head = ''.join(f'<th scope="col">{escape(name)}</th>' for name in names)
    rows = ''.join(
        f'<tr><th scope="row"><a href="{escape(case_link(number, case, lesion.position))}">{escape(case.name)}, slice '
        f'{case.indices[lesion.position]}</a></th><td>{lesion.diameter_mm:.1f}</td><td>{lesion.volume_ml:,.2f}</td>'
        f'{"".join(f"<td>{_dice(lesion.dice[name])}</td>" for name in names)}</tr>'
        for number, case, lesion in lesions[:_WORST]
    )
    return f'<h3>The {len(lesions[:_WORST])} worst of {len(lesions)} lesions</h3>' + _scrolling(
        '<table class="numbers cases"><thead><tr><th scope="col">Lesion</th><th scope="col">Diameter, mm</th>'
        f'<th scope="col">Volume, ml</th>{head}</tr></thead><tbody>{rows}</tbody></table>'
    )


def _telling(case: Case) -> int:
    """The slice to open a case at: its worst lesion's, else the first."""
    return case.lesions[0].position if case.lesions else 0


def _is_best(name: str, key: str, rows: Mapping[str, Mapping[str, Any]], networks: list[str]) -> bool:
    values = [rows[network].get(key) for network in networks]
    differ = all(map(_finite, values)) and len(set(values)) > 1
    return differ and name in networks and rows[name].get(key) == max(values)  # type: ignore[type-var]


def _interval(interval: Any) -> str:
    if not isinstance(interval, Sequence) or len(interval) != 2 or not all(map(_finite, interval)):
        return ''
    return f'<small class="interval">{interval[0]:.3f} to {interval[1]:.3f}</small>'


def _pairs(values: Mapping[str, Any]) -> str:
    rows = ''.join(
        f'<tr><th scope="row">{escape(str(k))}</th><td>{escape(str(v))}</td></tr>' for k, v in values.items()
    )
    return _scrolling(f'<table class="pairs"><tbody>{rows}</tbody></table>')


def _scrolling(table: str) -> str:
    # A region that scrolls must be reachable by key.
    return f'<div class="scroll" tabindex="0">{table}</div>'


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _dice(value: float) -> str:
    return UNDEFINED if math.isnan(value) else f'{value:.3f}'


def _count(number: int, unit: str) -> str:
    return f'{number:,} {unit}' + ('' if number == 1 else 's')
