"""The commands of `liver-jax`: their flags and the one call each makes. Heavy modules are imported when they run."""

import dataclasses
import json
import shutil
import signal
import sys
from pathlib import Path

from absl.flags import FlagValues

from liver_jax.cli_flags import Command, Flag, config_of, millilitres_of, parse_flags, shard_of
from liver_jax.config import Config
from liver_jax.errors import UserError
from liver_jax.runtime.distributed import initialise, is_first, on_first
from liver_jax.runtime.interrupt import Interrupted

CONFIG = Flag('a config file, such as configs/lits.py; override a field with --config.data.raw=PATH')
DEFAULT_CONFIG = str(Path(__file__).parent.parent / 'configs' / 'default.py')
WORKDIR = Flag('the run folder, such as runs/first')


def _phantom(values: FlagValues) -> None:
    from liver_jax.data.phantom import make_phantoms

    paths = make_phantoms(_path(values.out), values.patients, values.seed)
    print(f'{len(paths)} synthetic volumes in {values.out}')


def _prepare(values: FlagValues) -> None:
    from liver_jax.data.prepare import prepare

    config = config_of(values).data
    if values.shard and values.merge:
        raise UserError('--shard and --merge were both given; expected --merge alone, once all shards are done')
    shard = shard_of(values.shard) if values.shard else None
    try:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's wish is like Ctrl-C
        made = prepare(config, shard, values.merge)
    except KeyboardInterrupt as error:
        raise Interrupted('stopped; finished volumes are kept') from error
    print(f'shard {values.shard}: {made}' if shard else f'slice store: {made}')
    if shard:
        print('once all are done: the same command with --merge')


def _inspect(values: FlagValues) -> None:
    from liver_jax.data.inspect import inspect_folder
    from liver_jax.report.inspection import write_inspection

    for flag in ('json', 'sheet', 'augment'):
        if values[flag].value and _path(str(values[flag].value)).is_dir():
            raise UserError(f'--{flag}={values[flag].value}: a folder; expected the name of a file')
    config = config_of(values)
    data = dataclasses.replace(config.data, raw=str(_path(values.dir))) if values.dir else config.data
    report, snapshots = inspect_folder(data, config.data.image_size if values.augment else 256)
    for line in write_inspection(report, snapshots, values.json, values.sheet, shutil.get_terminal_size().columns):
        print(line)
    if values.augment and snapshots:
        _start_jax()
        import numpy as np

        from liver_jax.report.augmentation_sheet import draw_augmentation_sheet

        images, masks = (np.stack([getattr(each, name) for each in snapshots]) for name in ('image', 'tumor'))
        draw_augmentation_sheet(_path(values.augment), images, masks, config.augment, config.seed)
        print(f'written: {values.augment}', file=sys.stderr if values.json == '-' else sys.stdout)
    refused = [case['case'] for case in report['cases'] if case['verdict'] == 'refuse']
    if refused:
        names = ', '.join(refused[:5]) + (', …' if len(refused) > 5 else '')
        count = f'{len(refused)} of {len(report["cases"])}'
        raise UserError(f'{data.raw}: {count} cases are refused ({names}); mend them or move them away')


def _train(values: FlagValues) -> None:
    _start_jax(config_of(values).train.deterministic, together=True)
    from liver_jax.training.loop import train

    workdir = train(config_of(values), _path(values.workdir))
    if is_first():
        print(f'trained: {workdir}\nscore it with: liver-jax evaluate --workdir={workdir}')


def _evaluate(values: FlagValues) -> None:
    _start_jax(together=True)
    on_first(lambda: _evaluate_here(values))


def _evaluate_here(values: FlagValues) -> None:
    from liver_jax.evaluation.results import evaluate_run
    from liver_jax.report.panel_table import panel_text
    from liver_jax.report.tables import evaluation_text

    raw = _path(values.raw) if values.raw else None
    results = evaluate_run(
        _path(values.workdir), values.checkpoint, values.split, raw, values.keep_training_cases,
        (values.images, values.labels),
    )  # fmt: skip
    width = shutil.get_terminal_size().columns
    print(evaluation_text(results, width))
    print(panel_text(results, width))
    print(f'written: {_path(values.workdir) / "evaluation" / results["split"]}.json')


def _score(values: FlagValues) -> None:
    from liver_jax.evaluation.score_folders import score_folders
    from liver_jax.report.score_table import score_text
    from liver_jax.runtime.run_folder import write_json

    results = score_folders(_path(values.prediction), _path(values.reference), values.labels)
    print(score_text(results, shutil.get_terminal_size().columns))
    if values.json:
        write_json(_path(values.json), results)
        print(f'written: {values.json}')
    failed = results['failed']
    if failed:
        more = f' (and {len(failed) - 1} more, listed above)' if len(failed) > 1 else ''
        raise UserError(f'{failed[0]["reason"]}{more}; cases scored: {len(results["cases"])}')


def _predict(values: FlagValues) -> None:
    _start_jax()
    from liver_jax.evaluation.predict import predict
    from liver_jax.evaluation.segment import Options
    from liver_jax.runtime.run_folder import write_json

    options = Options(values.flips, millilitres_of(values.min_ml), values.largest_component, values.probabilities)
    output = _path(values.output)
    liver = _path(values.liver_workdir) if values.liver_workdir else None
    manifest = predict(_path(values.workdir), _path(values.input), output, values.checkpoint, options, liver)
    if values.json == '-':
        print(json.dumps(manifest, indent=1))
    else:
        print(f'written: {output} (labels, findings.csv, manifest.json)')
    if values.json not in ('', '-'):
        write_json(_path(values.json), manifest)
    failed = [entry for entry in manifest['cases'] if entry['status'] == 'failed']
    if failed:
        rest = f'; and {len(failed) - 1} others, see {output / "manifest.json"}' if len(failed) > 1 else ''
        raise UserError(f'{len(failed)} of {len(manifest["cases"])} scans failed: {failed[0]["error"]}{rest}')


def _compare(values: FlagValues) -> None:
    _start_jax(config_of(values).train.deterministic, together=True)
    from liver_jax.compare import compare

    table = compare(config_of(values), _path(values.workdir), shutil.get_terminal_size().columns)
    if is_first():
        print(table)


def _report(values: FlagValues) -> None:
    _start_jax()
    from liver_jax.report.html import write_report

    workdir = _path(values.workdir)
    out = _path(values.out) if values.out else workdir / 'report.html'
    size, renamed = write_report(workdir, out, _default_config())
    for shown, name in renamed.items():
        print(f'{shown} in the page: {name} (names that may be of people stay out of it)')
    print(f'written: {out} ({size / 1e6:.1f} MB)')


def _bench_data(values: FlagValues) -> None:
    _start_jax()
    from liver_jax.bench.data import bench_data, data_text
    from liver_jax.runtime.run_folder import write_json

    results = bench_data(config_of(values))
    print(data_text(results))
    if values.json:
        write_json(_path(values.json), results)


def _default_config() -> Config | None:
    """What configs/default.py says; an installed wheel has no configs."""
    if not Path(DEFAULT_CONFIG).exists():
        return None
    return config_of(parse_flags('report', Command('', {'config': CONFIG}, _report), [f'--config={DEFAULT_CONFIG}']))


def _path(text: str) -> Path:
    return Path(text).expanduser()


def _start_jax(deterministic: bool = False, together: bool = False) -> None:
    """With `together` the processes of a job, where it has several, do it as one."""
    from liver_jax.runtime import compile_cache, determinism

    compile_cache.use_compile_cache()
    if deterministic:
        determinism.request_determinism()
    if together:
        initialise()


COMMANDS = {
    'phantom': Command(
        'make synthetic CT volumes with liver and tumours',
        {
            'out': Flag('folder for the volumes, new or empty'),
            'patients': Flag('number of patients; some get two volumes', 12),
            'seed': Flag('the same seed gives the same volumes', 0),
        },
        _phantom,
    ),
    'inspect': Command(
        'look at every case of a folder before training: a verdict on each, whose scans they are',
        {
            'dir': Flag('the folder of CT scans (default: data.raw of the config)', ''),
            'config': Flag(f'{CONFIG.help}; says where patients come from', DEFAULT_CONFIG),
            'json': Flag('write what was found as JSON to this file, without a value to the terminal', '', bare='-'),
            'sheet': Flag('write a picture of every case with its outlines to this PNG', '', bare='inspect.png'),
            'augment': Flag('draw the augmentation of these slices to this PNG', '', bare='augmentation.png'),
        },
        _inspect,
        word='dir',
    ),
    'prepare': Command(
        'turn raw volumes into the slice store that training reads',
        {
            'config': CONFIG,
            'shard': Flag('i/n: prepare only the i-th of n shares (i from 0), beside others on the same disk', ''),
            'merge': Flag('join the shares to the store, once all are done', False),
        },
        _prepare,
    ),
    'train': Command('train one network', {'config': CONFIG, 'workdir': WORKDIR}, _train),
    'evaluate': Command(
        'score a checkpoint; needs the run folder alone',
        {
            'workdir': WORKDIR,
            'checkpoint': Flag('best, latest or a step', 'best'),
            'split': Flag('part of the split to score: val or test', 'test', ('val', 'test')),
            'raw': Flag('score this folder of other volumes instead, prepared the same way', ''),
            'images': Flag('with --raw: pattern of the images in it, such as ct/*.nii.gz (else recognised)', ''),
            'labels': Flag('with --raw: pattern of their labels', ''),
            'keep_training_cases': Flag('of --raw, score also volumes that were in training or validation', False),
        },
        _evaluate,
    ),
    'score': Command(
        'score NIfTI segmentations, whatever made them, by the LiTS scores and more; files are joined by number',
        {
            'prediction': Flag('folder of predicted segmentations'),
            'reference': Flag('folder of reference segmentations'),
            'json': Flag('file for all scores', ''),
            'labels': Flag(
                'what labels of predictions mean: lits (1 liver, 2 tumour), tumor or liver (one class), auto (by what '
                'is there, and says so)',
                'auto',
                ('auto', 'lits', 'tumor', 'liver'),
            ),
        },
        _score,
    ),
    'predict': Command(
        'segment scans with a trained network: NIfTI and DICOM-SEG on their own grid, lesions measured',
        {
            'workdir': WORKDIR,
            'input': Flag('a NIfTI file, a DICOM series, or a folder of them'),
            'output': Flag('folder for the results; what it has of the same network is left as it is'),
            'checkpoint': Flag('best, latest or a step', 'best'),
            'liver_workdir': Flag('run folder of a second network, of the liver; tumour counts only within', ''),
            'flips': Flag('average over mirrored slices, as the network saw them in training', False),
            'min_ml': Flag('leave out pieces smaller than this many millilitres', '0'),
            'largest_component': Flag('keep the largest piece alone; for networks of the liver', False),
            'probabilities': Flag('write probabilities too (uint16 NIfTI with a slope)', False),
            'json': Flag('write the manifest to this file, without a value to the terminal', '', bare='-'),
        },
        _predict,
    ),
    'compare': Command(
        'train both networks alike, score them, write table and pictures',
        {'config': CONFIG, 'workdir': WORKDIR},
        _compare,
    ),
    'report': Command(
        'make one HTML page of a finished comparison or run, to read offline and to hand on',
        {'workdir': WORKDIR, 'out': Flag('the page (default: report.html in the run folder)', '')},
        _report,
    ),
    'bench data': Command(
        'measure what each stage from store to device delivers; makes up slices where there is no store',
        {
            'config': Flag(CONFIG.help, DEFAULT_CONFIG),
            'json': Flag('file for the numbers', ''),
        },
        _bench_data,
    ),
}
