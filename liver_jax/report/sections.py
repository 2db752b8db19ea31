"""The sections of the page as HTML, made from findings. Everything that is not ours is escaped here."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from liver_jax.report.cases import Case
from liver_jax.report.certainty import verdict
from liver_jax.report.findings import Findings, Trained
from liver_jax.report.lesions import RULE
from liver_jax.report.markup import (
    counted,
    escape,
    grid_table,
    html_table,
    mapping,
    pairs_table,
    scrolling,
    section,
    volume,
)
from liver_jax.report.plots import case_chart, case_link, learning_curves, legend, lesion_chart
from liver_jax.report.tables import (
    SLICES,
    TARGETS,
    UNDEFINED,
    Column,
    Table,
    display_name,
    protocol_lines,
    score_tables,
)
from liver_jax.report.volume_table import TITLE, volumes_grid, volumes_words

AVERAGES = (
    Column('dice_image', 'Mean over slices', '', 'image'),
    Column('dice_case', 'Mean over cases', '', 'case'),
    Column('dice_pooled', 'All pixels pooled', '', 'pooled'),
)
_WORST = 8  # lesions in the table


def header(findings: Findings) -> str:
    """Title, what was compared on what, and the warning where there is one."""
    protocol = findings.results['protocol']
    names = ' and '.join(display_name(key) for key in findings.results['models'])
    slices = sum(len(case.indices) for case in findings.cases)
    patients = len({case.patient for case in findings.cases})
    facts = [
        ('Target', TARGETS.get(protocol['target'], protocol['target'])),
        ('Tested on', ', '.join(map(counted, (slices, len(findings.cases), patients), ('slice', 'case', 'patient')))),
        ('Slices', SLICES.get(protocol['slices'], protocol['slices'])),
        ('Split by', protocol['split']),
        *([('Trained', counted(len(findings.trained), 'pair'))] if len(findings.trained) > 1 else []),
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
    models, baselines = results['models'], results['baselines']
    averages = Table('Dice', '', AVERAGES, {display_name(k): v for k, v in {**models, **baselines}.items()})
    intervals = {display_name(k): v for k, v in results['intervals'].items()}
    body = html_table(averages, intervals, 'headline')
    body += verdict(results)
    tables = [
        f'<div><h3>{escape(table.title)}</h3>{html_table(table, intervals)}'
        f'<p class="note">{escape(table.caption)}</p></div>'
        for table in score_tables(results)
    ]
    body += f'<div class="tables">{"".join(tables)}</div>'
    lead = (
        'One network on one test set has as many Dice scores as there are ways to average. '
        'Read a number with its column, and beside the baseline that predicts nothing. '
        'Bold is the higher of the two networks, below a score its 95 % interval over patients.'
    )
    return section('scores', 'Dice, by what is averaged', body, lead)


def curves(findings: Findings) -> str:
    """Learning curves, of several pairs all together and each on its own."""
    trained, monitor = findings.trained, escape(findings.config.train.monitor)
    body = legend(findings.networks) + _charts(trained)
    if len(trained) > 1:
        body += ''.join(
            f'<details><summary>{escape(pair.title.capitalize())}</summary>{_charts([pair])}</details>'
            for pair in trained
        )
    lead = f'Marked: the checkpoint that was scored, the best by validation (<code>{monitor}</code>).'
    lead = f'All {len(trained)} pairs, a thin line per network; below, each pair. {lead}' if len(trained) > 1 else lead
    return section('training', 'Training', body, lead)


def _charts(trained: Sequence[Trained]) -> str:
    drawn = learning_curves(trained)
    figures = ''.join(f'<figure><figcaption>{escape(title)}</figcaption>{svg}</figure>' for title, svg in drawn)
    return f'<div class="charts">{figures}</div>' if drawn else '<p>No history was recorded.</p>'


def cases(findings: Findings) -> str:
    """Dice of every case and lesion, as charts, and as a table with a link to the slices."""
    names = findings.networks
    lesions = lesion_chart(findings.cases)
    figures = f'<figure><figcaption>By case, the largest on top</figcaption>{case_chart(findings.cases)}</figure>'
    if lesions:
        figures += f'<figure><figcaption>By lesion: Dice</figcaption>{lesions}</figure>'
    body = (
        f'{legend(names)}<div class="charts wide">{figures}</div><p class="note">{escape(RULE)} '
        f'{escape(_measured(findings))}</p>{_case_table(findings.cases, names)}'
        f'{_lesion_table(findings.cases, names)}'
    )
    return section('cases', 'Cases and lesions', body, 'Each mark and each name leads to its slices.')


def protocol(findings: Findings, command: str, config: Mapping[str, Any], versions: Mapping[str, str]) -> str:
    """What the numbers depend on, and how to have them again."""
    described = {**findings.results['protocol']}
    # Without what follows in words of the data: it may name cases, and so people.
    described['patients'] = re.split(r'[;(]', str(described.get('patients') or ''))[0].strip()
    folds = described.get('folds')
    lines = ''.join(f'<li>{escape(line)}</li>' for line in protocol_lines(described))
    if folds:
        lines += f'<li>Counts are those of the first of {folds} folds; every patient is tested once.</li>'
    certificate = mapping(described.get('certificate'))
    facts = {
        'disjoint patients': 'yes' if certificate.get('disjoint') else 'no',
        'scans in two parts under two names': len(certificate.get('duplicates') or ()),
        'digest of the split': described.get('split_digest', '') + (' (first fold)' if folds else ''),
    }
    body = f'<ul class="protocol">{lines}</ul><h3>Split certificate</h3>{pairs_table(facts)}'
    body += f'<h3>To have these numbers again</h3><pre tabindex="0"><code>{escape(command)}</code></pre>'
    body += f'<h3>Versions that made this page</h3>{pairs_table(versions)}'
    body += f'<details><summary>The whole config</summary>{pairs_table(config)}</details>'
    return section('protocol', 'Protocol', body)


def whole_scans(results: Mapping[str, Any]) -> str:
    """The scores of the test scans as volumes, or why there are none."""
    volumes = results['volumes']
    grid = volumes_grid(volumes)
    words = f'<p class="note">{escape(volumes_words(volumes))}</p>'
    return section('volumes', TITLE, (grid_table(grid, TITLE) if grid else '') + words)


def _measured(findings: Findings) -> str:
    """What the numbers of cases and lesions are of."""
    volumes = findings.results['volumes']
    if not volumes['cases']:
        return (
            'The numbers here are of the stored slices alone, on the network’s grid, not of whole scans: '
            f'{volumes["note"]}. Small lesions may be lost on that grid.'
        )
    words = 'The numbers here are of whole scans at native resolution'
    if findings.results['protocol'].get('seeds', 1) > 1:
        words += ', means over the seeds'
    unseen = len(volumes['cases']) - len(findings.cases)
    without = f' {counted(unseen, "scan")} without a stored slice cannot be shown and count in the means alone.'
    return f'{words}.{without if unseen else ""}'


def _case_table(cases: list[Case], names: list[str]) -> str:
    order = sorted(enumerate(cases, 1), key=lambda pair: (math.isnan(pair[1].mean_dice), pair[1].mean_dice))
    head = ''.join(f'<th scope="col">{escape(name)}</th>' for name in names)
    rows = ''.join(
        f'<tr><th scope="row"><a href="{escape(case_link(number, case, _telling(case)))}">{escape(case.name)}</a></th>'
        f'<td>{escape(case.patient)}</td><td>{len(case.indices):,}</td><td>{len(case.lesions):,}</td>'
        f'<td>{volume(case.volume_ml)}</td>{"".join(f"<td>{_dice(case.dice[name])}</td>" for name in names)}</tr>'
        for number, case in order
    )
    return '<h3>Cases, the worst first</h3>' + scrolling(
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
        f'{case.indices[lesion.position]}</a></th><td>{lesion.diameter_mm:.1f}</td><td>{volume(lesion.volume_ml)}</td>'
        f'{"".join(f"<td>{_dice(lesion.dice[name])}</td>" for name in names)}</tr>'
        for number, case, lesion in lesions[:_WORST]
    )
    many = len(lesions) > _WORST
    title = (
        f'The {_WORST} worst of {len(lesions):,} lesions' if many else f'{counted(len(lesions), "lesion")}, worst first'
    )
    return f'<h3>{title}</h3>' + scrolling(
        '<table class="numbers cases"><thead><tr><th scope="col">Lesion</th>'
        f'<th scope="col">Longest axial diameter, mm</th><th scope="col">Volume, ml</th>{head}</tr></thead>'
        f'<tbody>{rows}</tbody></table>'
    )


def _telling(case: Case) -> int:
    """The slice to open a case at: its worst lesion's, else the first."""
    return case.lesions[0].position if case.lesions else 0


def _dice(value: float) -> str:
    return UNDEFINED if math.isnan(value) else f'{value:.3f}'
