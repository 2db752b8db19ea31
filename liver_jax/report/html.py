"""`liver-jax report`: one HTML file that needs nothing else, and whose policy lets it ask for nothing else."""

import base64
import dataclasses
import hashlib
import html
import json
import platform
import shlex
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from liver_jax import __version__
from liver_jax.config import PATIENT_SOURCES, Config
from liver_jax.config_fields import flat
from liver_jax.files import write_atomically
from liver_jax.report import sections
from liver_jax.report.certainty import by_patient, calibration
from liver_jax.report.examples import examples
from liver_jax.report.figures import ON_DARK, TRUTH_FILL
from liver_jax.report.findings import Findings, gather
from liver_jax.report.markup import section
from liver_jax.report.panel_section import honest_panel
from liver_jax.report.slice_data import cases_data

LARGEST = 24_000_000  # bytes of the whole page
ASSETS = Path(__file__).parent / 'assets'
_WITHOUT_VIEWER = (
    'This page was made without NiiVue, the 3D viewer. In a checkout, <code>make viewer</code> fetches it from npm; '
    'the next report then has it.'
)
_ON_PAPER = '<p class="on-paper">The 3D view is not printed: it is in the page itself, opened in a browser.</p>'
# Where things lie, and how fast: no part of the protocol, and paths stay out of the page.
_PRIVATE = ('data.raw', 'data.images', 'data.labels', 'data.patients', 'data.store')
_MACHINE = ('data.workers', 'data.memory_gb', 'data.case_seconds', 'data.placement', 'train.log_every_steps')


def write_report(workdir: Path, out: Path, defaults: Config | None) -> tuple[int, dict[str, str]]:
    """Write the page of the run in `workdir` to `out`; its size in bytes, and the names of cases that it leaves out.

    Of the config, the command on the page shows only what differs from `defaults`.

    Raises:
        UserError: `workdir` is no finished run, or its slice store is gone.
    """
    findings = gather(workdir)
    page = make_page(findings, defaults)
    write_atomically(out, page)
    return len(page.encode()), findings.renamed


def make_page(findings: Findings, defaults: Config | None) -> str:
    """The page as text."""
    style = (ASSETS / 'page.css').read_text()
    parts = ''.join((ASSETS / f'{name}.js').read_text() for name in ('drawing', 'volume', 'browser'))
    script = f"'use strict';\n(() => {{\n{parts}}})();\n"
    niivue = _viewer()
    scripts = [niivue, script] if niivue else [script]
    body = _body(findings, defaults, bool(niivue))
    # 4 kB, and lesions: what else there is around the slices.
    lesions = sum(len(case.lesions) for case in findings.cases)
    budget = LARGEST - sum(len(part.encode()) for part in (*scripts, style, body)) - 4000 - 200 * lesions
    about = {
        'networks': {name: ON_DARK[name] for name in findings.networks},
        'truth': TRUTH_FILL,
        'window': findings.config.data.window,
        'cases': [case.name for case in findings.cases],
        'first': 1 + int(np.argmax([len(case.indices) for case in findings.cases])),
    }
    data = [_json('about', about)]
    data += [_json(f'case-{number}', each) for number, each in enumerate(cases_data(findings.cases, budget), 1)]
    policy = (
        f"default-src 'none'; img-src data: blob:; style-src {_hash(style)}; "
        f"script-src {' '.join(map(_hash, scripts))}; base-uri 'none'; form-action 'none'"
    )
    title = ' and '.join(findings.networks)
    return ''.join(
        [
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{html.escape(policy)}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="referrer" content="no-referrer"><meta name="robots" content="noindex">',
            f'<title>{html.escape(title)}: report</title><link rel="icon" href="data:,">',
            f'<style>{style}</style></head>\n<body>{body}\n',
            *data,
            f'\n<!--\n{(ASSETS / "viewer" / "NOTICE.txt").read_text()}-->\n' if niivue else '',
            *(f'<script>{each}</script>\n' for each in scripts),
            '</body></html>\n',
        ]
    )


def _body(findings: Findings, defaults: Config | None, viewer: bool) -> str:
    places = {
        'scores': 'Scores', 'panel': 'Honest panel', 'volumes': 'Whole scans', 'patients': 'Patients',
        'calibration': 'Calibration', 'cases': 'Cases', 'browser': 'Slices', 'volume': '3D', 'examples': 'Examples',
        'training': 'Training', 'protocol': 'Protocol',
    }  # fmt: skip
    links = ''.join(f'<li><a href="#{name}">{title}</a></li>' for name, title in places.items())
    markup = (ASSETS / 'browser.html').read_text()
    volume = (ASSETS / 'volume.html').read_text() if viewer else f'<p>{_WITHOUT_VIEWER}</p>'
    config = {name: value for name, value in flat(dataclasses.asdict(findings.config)).items() if name not in _PRIVATE}
    return '\n'.join(
        [
            '<a class="skip" href="#main">Skip to the scores</a>',
            f'<nav aria-label="Sections"><ul>{links}</ul></nav><main id="main">{sections.header(findings)}',
            sections.headline(findings),
            honest_panel(findings.results),
            sections.whole_scans(findings.results),
            by_patient(findings),
            calibration(findings.results),
            sections.cases(findings),
            section('browser', 'Slices', markup, _whose(findings)),
            section('volume', 'The case in 3D', volume + _ON_PAPER),
            examples(findings),
            sections.curves(findings),
            sections.protocol(findings, command(findings, defaults), config, versions()),
            '</main>',
            '<footer>Made by liver_jax. For research; not a medical device.</footer>',
        ]
    )


def _whose(findings: Findings) -> str:
    """Whose predictions the slices show, where several networks were trained."""
    protocol, words = findings.results['protocol'], []
    if protocol.get('folds'):
        words.append('each patient as predicted by the networks of its own fold, which were not trained on it')
    if protocol.get('seeds', 1) > 1:
        words.append(f'the networks of the first seed ({findings.results["runs"][0]["seed"]})')
    everywhere = 'So in 3D and Examples' if findings.results['volumes']['cases'] else 'So in Cases, 3D and Examples'
    return f'Shown: {"; ".join(words)}. {everywhere}.' if words else ''


def command(findings: Findings, defaults: Config | None) -> str:
    """The command that makes these numbers, without paths; of the config what differs from `defaults`."""
    values = flat(dataclasses.asdict(findings.config))
    usual = flat(dataclasses.asdict(defaults)) if defaults else {}
    left_out = (*_PRIVATE, *_MACHINE, *(('model.name',) if findings.kind == 'compare' else ()))
    data = findings.config.data
    places = {'raw': 'PATH', 'images': 'PATTERN', 'labels': 'PATTERN', 'patients': 'FILE'}
    if data.patients in PATIENT_SOURCES:
        places['patients'] = data.patients
    changed = [
        shlex.quote(f'--config.{name}={value}')
        for name, value in values.items()
        if name not in left_out and (name not in usual or usual[name] != value)
    ]
    lines = [
        f'liver-jax {findings.kind} --config=configs/default.py',
        *(f'--config.data.{name}={place}' for name, place in places.items() if name == 'raw' or getattr(data, name)),
        *changed,
        '--workdir=W',
    ]
    return ' \\\n    '.join(lines)


def versions() -> dict[str, str]:
    """Of what this page was made with."""
    return {
        'liver_jax': __version__,
        **{name: metadata.version(name) for name in ('jax', 'flax', 'numpy')},
        'Python': platform.python_version(),
    }


def _viewer() -> str:
    """NiiVue's script as `make viewer` left it, or nothing."""
    file = ASSETS / 'viewer' / 'niivue.umd.js'
    return file.read_text() if file.exists() else ''


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _json(name: str, values: Any) -> str:
    """Data for the script; no string in it can end the element or open a comment."""
    text = json.dumps(values, separators=(',', ':'), allow_nan=False)
    for sign in '<>&':
        text = text.replace(sign, f'\\u{ord(sign):04x}')
    return f'<script type="application/json" id="{name}">{text}</script>\n'
