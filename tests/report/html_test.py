"""The page in a real browser: it asks for nothing, holds the numbers, draws, moves by key, and tells no names."""

import dataclasses
import io
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from chromium import Page
from liver_jax.compare import compare
from liver_jax.data.volumes import open_scan
from liver_jax.errors import UserError
from liver_jax.evaluation.native import WholePrediction, describe_volumes, score_scan
from liver_jax.evaluation.run import open_store
from liver_jax.evaluation.scans import find_scans
from liver_jax.report import html
from liver_jax.report.findings import gather
from liver_jax.report.html import ASSETS, make_page, write_report
from liver_jax.report.tables import display_name
from liver_jax.runtime.run_folder import json_text, read_run_config
from small_ct import small_config

HOSTILE = '<img src=x onerror=alert(1)>'
NAMES = ('volume-0', 'volume-1', 'volume-2', 'volume-3', HOSTILE, 'Doe^Jane')
# Of comparison.json, in the order of the tables and their columns.
TABLES = (
    ('dice_image', 'dice_case', 'dice_pooled'),
    ('dice_image', 'iou_image', 'ssim', 'precision_pooled', 'recall_pooled', 'f1_pooled'),
    ('dice_case', 'iou_case', 'ssim_case', 'precision_case', 'recall_case', 'f1_case'),
)
DRAWN = 'document.getElementById("viewer").dataset.drawn'


@pytest.fixture(scope='module')
def workdir(raw, tmp_path_factory):
    """A comparison whose test part has slices of every case, two of them with names that are nobody's business."""
    folder = tmp_path_factory.mktemp('secret-place')
    for number, name in enumerate(NAMES):
        for kind, place in (('volume', 'ct'), ('segmentation', 'masks')):
            (folder / 'raw' / place).mkdir(parents=True, exist_ok=True)
            shutil.copy(raw / f'{kind}-{number}.nii.gz', folder / 'raw' / place / f'{name}.nii.gz')
    config = small_config(
        folder / 'raw',
        folder / 'store',
        data_images='ct/*.nii.gz',
        data_labels='masks/*.nii.gz',
        data_patients='volume',
        split_by='slice',
        split_fractions=(0.4, 0.1, 0.5),
        train_epochs=25,
        train_patience=25,
        optim_learning_rate=0.01,
    )
    compare(config, folder / 'run', 80)
    return folder / 'run'


@pytest.fixture(scope='module')
def page_file(workdir):
    write_report(workdir, workdir / 'report.html', None)
    return workdir / 'report.html'


@pytest.fixture(scope='module')
def of_scans(workdir, tmp_path_factory):
    """The run with scores of its whole scans: U-Net marks tumour a row too low, ResU-Net exactly, in the last none."""
    place = tmp_path_factory.mktemp('scans') / 'run'
    shutil.copytree(workdir, place)
    config = read_run_config(workdir)
    scans, _ = find_scans(open_store(config), config.data)
    scored = []
    for number, case in enumerate(scans.values()):
        scan = open_scan(case, config.data.window)
        labels = np.stack([plane.labels for plane in sorted(scan.planes(), key=lambda plane: plane.index)])
        exact = (labels == 2).astype(np.float32) * (number < len(scans) - 1)
        whole = {'unet': np.roll(exact, 1, 1), 'resunet': exact}
        predictions = {name: WholePrediction(scan.size, 0.5, 'tumor') for name in whole}
        for name, probabilities in whole.items():
            for index, plane in enumerate(probabilities):
                predictions[name].add(index, plane)
        scored.append(score_scan(scan, case.name, labels, 'tumor', predictions))
    results = json.loads((place / 'comparison.json').read_text())
    results['volumes'] = describe_volumes([scored], 'tumor', 0.5, '')
    (place / 'comparison.json').write_text(json_text(results))
    return place


@pytest.fixture
def page(page_file):
    with Page(page_file) as page:
        page.wait(DRAWN)
        yield page


def cells(page, table):
    """{name of the row: texts of its cells} of a table of scores, the averages being number 0."""
    rows = f'[...document.querySelectorAll("#scores table.numbers")[{table}].tBodies[0].rows]'
    texts = '[...row.cells].map((cell) => cell.textContent)'
    return {name: values for name, *values in page.run(f'{rows}.map((row) => {texts})')}


def pixels(page, selector):
    """The pixels [rows, columns, 3] of an element as it is seen."""
    page.run(f'document.querySelector({selector!r}).scrollIntoView()')
    place = f'document.querySelector({selector!r}).getBoundingClientRect()'
    box = page.run(f'(({{left, top, right, bottom}}) => [left, top, right, bottom])({place})')
    return np.asarray(Image.open(io.BytesIO(page.screenshot())).convert('RGB').crop(tuple(map(int, box))))


def test_loads_without_an_error_or_a_request(page, page_file):
    assert page.problems == []
    assert [url for url in page.requests if not url.startswith('data:')] == [page_file.absolute().as_uri()]
    assert page_file.stat().st_size < 25_000_000


def test_the_policy_forbids_what_the_page_does_not_need(page):
    policy = page.run('document.querySelector("meta[http-equiv]").content')
    assert policy.startswith("default-src 'none'; img-src data: blob:; style-src 'sha256-")
    assert 'unsafe' not in policy
    page.run(
        '(() => { const made = document.createElement("script"); made.textContent = "window.hacked = 1";'
        'document.body.append(made); })()'
    )
    assert page.run('window.hacked') is None


def test_tables_hold_the_numbers_of_the_comparison(workdir, tmp_path):
    findings = gather(workdir)
    comparison = json.loads((workdir / 'comparison.json').read_text())
    assert findings.results == comparison
    scores = {
        'U-Net': comparison['models']['unet'],
        'ResU-Net': comparison['models']['resunet'],
        **{display_name(name): values for name, values in comparison['baselines'].items()},
    }
    for number, values in enumerate(scores.values()):  # no two alike: a swapped column shows
        values |= {
            key: round(0.1 + 0.15 * number + 0.0111 * at, 4) for at, key in enumerate(sorted({*sum(TABLES, ())}))
        }
    scores['all zero']['dice_image'] = None
    (tmp_path / 'page.html').write_text(make_page(dataclasses.replace(findings, results=comparison), None))
    with Page(tmp_path / 'page.html') as page:
        for at, keys in enumerate(TABLES):
            shown = cells(page, at)
            assert list(shown) == list(scores)
            for name, values in scores.items():
                numbers = ['–' if values[key] is None else f'{values[key]:.4f}' for key in keys]
                for cell, number in zip(shown[name], numbers, strict=True):
                    assert cell == number or (cell.startswith(number) and ' to ' in cell)  # with its interval


def test_cases_are_scored_as_in_the_evaluation(workdir):
    findings = gather(workdir)
    assert 0 < findings.results['models']['unet']['dice_pooled'] < 1  # or it would show nothing
    for key, name in (('unet', 'U-Net'), ('resunet', 'ResU-Net')):
        results = json.loads((workdir / key / 'evaluation' / 'test.json').read_text())
        assert [case.dice[name] for case in findings.cases] == [row['dice'] for row in results['cases']]
        slices = np.concatenate([case.slice_dice[name] for case in findings.cases])
        expected = [np.nan if row['dice'] is None else row['dice'] for row in results['images']]
        np.testing.assert_array_equal(slices, expected)


def rows_of(page, selector):
    """Texts of the cells of a table's body, row by row."""
    return page.run(
        f'[...document.querySelector({selector!r}).tBodies[0].rows].map((row) => '
        '[...row.cells].map((cell) => cell.textContent))'
    )


def test_cases_and_lesions_are_those_of_whole_scans_where_there_are_some(of_scans, tmp_path):
    volumes = json.loads((of_scans / 'comparison.json').read_text())['volumes']
    write_report(of_scans, tmp_path / 'page.html', None)
    with Page(tmp_path / 'page.html') as page:
        page.wait(DRAWN)
        cases = {row[0]: row[3:] for row in rows_of(page, '#cases .scroll:nth-of-type(2) table')}
        for number, case in enumerate(volumes['cases'], 1):
            found = [case['scores'][name] for name in ('unet', 'resunet')]
            shown = case['case'] if case['case'] in NAMES[:4] else f'case {number}'
            ml = found[0]['tumor.reference_ml']
            assert ml >= 1  # so with one decimal
            dice = [f'{each["tumor.dice"]:.3f}' for each in found]
            assert cases[shown] == [f'{len(case["lesions"])}', f'{ml:.1f}', *dice]
        lesions = [lesion for case in volumes['cases'] for lesion in case['lesions']]
        expected = sorted(
            [f'{lesion["diameter_mm"]:.1f}', *(f'{d:.3f}' for d in lesion['dice'].values())] for lesion in lesions
        )
        rows = rows_of(page, '#cases .scroll:last-of-type table')
        assert sorted([row[1], *row[3:]] for row in rows) == expected
        assert {row[3] for row in rows} & {'0.000'}
        marks = page.run(
            '[...document.querySelectorAll("#cases figure:nth-of-type(2) a title")].map((e) => e.textContent)'
        )
        assert len(marks) == 2 * len(lesions)
        shown = {row[0]: row[1:] for row in rows_of(page, '#volumes table')}
        unet, resunet = (volumes['networks'][name] for name in ('unet', 'resunet'))
        for name, part, key, style in (
            ('Dice per case', 'mean', 'tumor.dice', '.4f'),
            ('Dice, all voxels pooled', 'global', 'tumor.dice', '.4f'),
            ('95 % Hausdorff, mm', 'mean', 'tumor.hd95', '.2f'),
            ('lesion F1, IoU > 0', 'global', 'lesion.f1_iou0', '.4f'),
            ('tumour burden, RMSE', 'global', 'burden.rmse', '.4f'),
        ):
            assert [cell.split(' ')[0] for cell in shown[name]] == [
                f'{each[part][key]:{style}}' for each in (unet, resunet)
            ]
        assert 'of whole scans at native resolution' in page.run('document.getElementById("cases").textContent')
        assert page.problems == []


def test_numbers_of_stored_slices_are_called_so(page):
    assert 'of the stored slices alone' in page.run('document.getElementById("cases").textContent')
    assert 'None: volumes are scored whole' in page.run('document.getElementById("volumes").textContent')


def test_scores_of_other_scans_are_refused(of_scans, tmp_path):
    shutil.copytree(of_scans, tmp_path / 'run')
    values = json.loads((of_scans / 'comparison.json').read_text())
    del values['volumes']['cases'][0]
    (tmp_path / 'run' / 'comparison.json').write_text(json.dumps(values))
    with pytest.raises(UserError, match='not among the scored volumes of the results'):
        gather(tmp_path / 'run')


def test_keys_move_through_slices_cases_and_lesions(page):
    case = page.run('JSON.parse(document.getElementById("about").textContent).first')  # that with most slices
    data = page.run(f'JSON.parse(document.getElementById("case-{case}").textContent)')
    indices = [each['index'] for each in data['slices']]
    assert len(indices) > 2
    page.run(f'location.hash = "#case={case}"')
    page.wait(f'{DRAWN}.startsWith("{case}/{indices[0]}/")')
    page.press('ArrowRight')
    page.wait(f'{DRAWN} !== "{case}/{indices[0]}/as prepared/whole"')
    assert page.run(DRAWN) == f'{case}/{indices[1]}/as prepared/whole'
    assert page.run('location.hash') == f'#case={case}&slice={indices[1]}'
    assert f'slice {indices[1]}, 2 of {len(indices)}' in page.run('document.getElementById("status").textContent')
    page.press('End')
    page.wait(f'{DRAWN}.startsWith("{case}/{indices[-1]}/")')
    page.press('ArrowRight')  # stays on the last
    page.press('w')
    page.press('z')
    page.wait(f'{DRAWN} === "{case}/{indices[-1]}/liver/zoom"')
    page.press('n')
    worst = indices[data['lesions'][0]['position']]
    page.wait(f'{DRAWN}.startsWith("{case}/{worst}/")')
    assert page.run('document.querySelector("#lesions button").getAttribute("aria-current")') == 'true'
    page.press(']')
    page.wait(f'{DRAWN}.startsWith("{case % len(NAMES) + 1}/")')
    assert page.problems == []


def test_an_address_opens_its_slice(page_file):
    with Page(page_file, '#case=2&slice=99') as page:
        page.wait(DRAWN)
        data = page.run('JSON.parse(document.getElementById("case-2").textContent)')
        assert page.run(DRAWN).startswith(f'2/{data["slices"][-1]["index"]}/')
        assert page.run('document.activeElement.id') == 'viewer'
    with Page(page_file, '#case=x&slice=<b>') as page:
        page.wait(DRAWN)
        assert page.problems == []


def test_panels_show_the_slice_and_its_masks(page, workdir):
    case = gather(workdir).cases[0]
    at = int(case.truth.sum((1, 2)).argmax())
    page.run(f'location.hash = "#case=1&slice={case.indices[at]}"')
    page.wait(f'{DRAWN}.startsWith("1/{case.indices[at]}/")')
    side = case.images.shape[1]
    read = """(number, side) => {
        const seen = document.querySelectorAll('#panels canvas')[number], zoom = seen.width / side;
        const { data } = seen.getContext('2d').getImageData(0, 0, seen.width, seen.width);
        return Array.from({ length: side * side }, (_, pixel) => {
            const row = Math.floor((Math.floor(pixel / side) + 0.5) * zoom);
            const column = Math.floor(((pixel % side) + 0.5) * zoom);
            return [...data.slice(4 * (row * seen.width + column), 4 * (row * seen.width + column) + 3)];
        });
    }"""
    ct, truth = (np.array(page.run(f'({read})({n}, {side})')).reshape(side, side, 3).astype(int) for n in (0, 1))
    assert np.abs(ct[..., 0] - case.images[at]).mean() < 4  # enlarging smooths a little
    coloured = truth[..., 1] - truth[..., 0] > 15  # the fill is green
    np.testing.assert_array_equal(coloured, case.truth[at])


def test_the_viewer_draws_the_volume(page):
    if not (ASSETS / 'viewer' / 'niivue.umd.js').exists():
        pytest.skip('no NiiVue; get it with `make viewer`')
    page.run('document.getElementById("open-volume").click()')
    page.wait('document.getElementById("niivue").dataset.drawn')
    page.run('new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))')
    seen = pixels(page, '#volume-frame').astype(int)
    grey = np.ptp(seen, axis=-1) < 12
    assert len(np.unique(seen[grey][:, 0])) > 60  # tissue
    green = (seen[..., 1] - seen[..., 0] > 25) & (seen[..., 1] > seen[..., 2])
    assert green.sum() > 50  # truth
    assert page.problems == []


def test_without_the_viewer_the_page_says_so(workdir, tmp_path, monkeypatch):
    monkeypatch.setattr(html, '_viewer', lambda: '')
    write_report(workdir, tmp_path / 'page.html', None)
    with Page(tmp_path / 'page.html') as page:
        page.wait(DRAWN)
        assert 'make viewer' in page.run('document.getElementById("volume").textContent')
        assert page.problems == []


def test_fits_a_phone_and_prints(page):
    page.size(390, 844, mobile=True)
    assert page.run('document.documentElement.scrollWidth') == 390
    boxes = '[...document.querySelectorAll("#panel .scroll")]'
    assert page.run(f'{boxes}.map((box) => box.scrollWidth - box.clientWidth)') == [0, 0, 0]  # nothing to push aside
    silent = 'img:not([alt]), canvas:not([aria-label]), svg.chart:not([aria-label])'
    assert page.run(f'document.querySelectorAll({silent!r}).length') == 0
    assert page.pdf().startswith(b'%PDF')


def test_on_paper_the_page_says_where_the_3d_view_is(page):
    seen = 'document.getElementById("volume").innerText'
    assert 'not printed' not in page.run(seen)
    page.call('Emulation.setEmulatedMedia', media='print')
    assert page.run(seen).split('\n\n')[1:] == [
        'The 3D view is not printed: it is in the page itself, opened in a browser.'
    ]


def test_names_and_places_stay_out_of_the_page(page_file, workdir):
    text = re.sub('<script>.*?</script>', '', page_file.read_text(), flags=re.DOTALL)  # ours and NiiVue's, no data
    assert 'volume-3' in text
    words = ('Doe^Jane', 'onerror', 'secret-place', str(workdir.parent), '.nii', f'{platform.node()}:')
    assert [text[text.index(word) - 40 :][:80] for word in words if word in text] == []
    results = json.loads((workdir / 'unet' / 'evaluation' / 'test.json').read_text())
    hidden = {f'case {number}': row['case'] for number, row in enumerate(results['cases'], 1)}
    assert gather(workdir).renamed == {shown: name for shown, name in hidden.items() if name in NAMES[4:]} != {}


def test_hostile_strings_are_text(workdir, tmp_path):
    findings = gather(workdir)
    bad = f'</script><script>alert(1)</script>{HOSTILE}"\'<!--'
    results = json.loads(json.dumps(findings.results))
    results['protocol'] |= {'warning': bad, 'patients': bad, 'target': bad, 'split_digest': bad}
    results['panel'] = [{**row, 'target': bad, 'model': bad} for row in results['panel'] if row['model'] == 'all_zero']
    results['paired'] |= {'verdict': bad, 'of': bad, 'metric': bad}
    results['calibration']['unet']['rule'] = bad
    cases = [dataclasses.replace(case, name=bad, patient=bad) for case in findings.cases]
    config = dataclasses.replace(findings.config, data=dataclasses.replace(findings.config.data, masks=bad))
    hostile = dataclasses.replace(findings, results=results, cases=cases, config=config)
    (tmp_path / 'page.html').write_text(make_page(hostile, None))
    with Page(tmp_path / 'page.html') as page:
        page.wait(DRAWN)
        assert page.problems == []
        assert page.run('document.querySelectorAll("img:not(.panels)").length') == 0
        assert bad in page.run('document.querySelector(".warning").textContent')
        assert page.run('document.querySelector("#case option").textContent') == bad


def test_the_same_run_gives_the_same_page(workdir, page_file):
    assert make_page(gather(workdir), None) == page_file.read_text()


def test_large_test_sets_keep_the_slices_that_tell(workdir, monkeypatch):
    findings = gather(workdir)
    text = make_page(findings, None)
    monkeypatch.setattr(html, 'LARGEST', len(text.encode()) - 2_000)
    small = make_page(findings, None)
    assert len(small.encode()) <= html.LARGEST
    left_out = [int(number) for number in re.findall(r'"left_out":(\d+)', small)]
    assert sum(left_out) > 0
    assert '"left_out":0' in text


def liver_jax(*flags, code=0):
    done = subprocess.run([sys.executable, '-m', 'liver_jax', *flags], capture_output=True, text=True, env=os.environ)
    assert done.returncode == code, done.stderr
    return done


def test_the_command_makes_the_page_of_a_single_run(workdir, tmp_path):
    done = liver_jax('report', f'--workdir={workdir}/unet', f'--out={tmp_path}/page.html')
    assert f'written: {tmp_path}/page.html' in done.stdout
    assert f'{HOSTILE} (names that may be of people stay out of it)' in done.stdout
    text = Path(tmp_path / 'page.html').read_text()
    expected = json.loads((workdir / 'comparison.json').read_text())['models']['unet']
    assert f'<td>{expected["dice_case"]:.4f}</td>' in text
    assert 'liver-jax train --config=configs/default.py \\\n    --config.data.raw=PATH' in text
    assert '--config.split.by=slice' in text
    assert 'config.optim.b1' not in text  # as configs/default.py has it


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_at_once(workdir, tmp_path, number):
    shutil.copy(workdir / 'config.json', tmp_path)
    os.mkfifo(tmp_path / 'comparison.json')  # it waits there
    command = [sys.executable, '-m', 'liver_jax', 'report', f'--workdir={tmp_path}']
    with (
        subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process,
        (tmp_path / 'comparison.json').open('w'),
    ):
        process.send_signal(number)
        assert process.stderr.read() == f'liver-jax: stopped by {number.name}; start the same command again\n'
    assert process.returncode == 75


@pytest.mark.parametrize(
    ('change', 'fault'),
    [
        (lambda values: values.pop('runs'), 'runs is missing or garbled'),
        (lambda values: values['panel'][3].pop('dice'), 'panel has no dice'),
        (lambda values: values.update(calibration=None), 'calibration is missing or garbled'),
        (lambda values: values['runs'][0]['best_step'].pop('unet'), 'runs and models are of other networks'),
        (lambda values: values['runs'][0]['best_step'].update(unet=1), 'comparison.json speaks of 1'),
    ],
)
def test_a_garbled_comparison_is_told_by_what_it_lacks(workdir, tmp_path, change, fault):
    place = tmp_path / 'run'
    shutil.copytree(workdir, place)
    values = json.loads((place / 'comparison.json').read_text())
    change(values)
    (place / 'comparison.json').write_text(json.dumps(values))
    with pytest.raises(UserError, match=fault):
        gather(place)
    (place / 'comparison.json').write_text('[1')
    with pytest.raises(UserError, match=r'comparison\.json: not readable'):
        gather(place)


def test_a_checkpoint_of_another_architecture_is_refused(workdir, tmp_path):
    place = tmp_path / 'run'
    shutil.copytree(workdir, place)
    shutil.rmtree(place / 'unet' / 'checkpoints')
    shutil.copytree(place / 'resunet' / 'checkpoints', place / 'unet' / 'checkpoints')
    done = liver_jax('report', f'--workdir={place}', code=2)
    assert len(done.stderr.splitlines()) == 1
    assert f'{place}/unet' in done.stderr


@pytest.mark.parametrize('what', ['nothing', 'folder', 'unfinished', 'garbled'])
def test_no_run_is_one_line_and_code_2(workdir, tmp_path, what):
    place = tmp_path / 'run'
    if what == 'folder':
        place.mkdir()
    elif what != 'nothing':
        shutil.copytree(workdir, place, ignore=shutil.ignore_patterns('report.html'))
        (place / 'comparison.json').unlink()
    if what == 'garbled':
        (place / 'comparison.json').write_text('{"a": 1}')
    done = liver_jax('report', f'--workdir={place}', code=2)
    assert len(done.stderr.splitlines()) == 1
    assert str(place) in done.stderr
    assert not (place / 'report.html').exists()
