"""The commands of `liver-jax`: their flags and the one call each makes. Heavy modules are imported when they run."""

import dataclasses
import shutil
import signal
import sys
from functools import partial
from pathlib import Path

from absl.flags import FlagValues

from liver_jax.cli_flags import WORKDIR, Command, Flag, config_of, parse_flags, path_of, start_jax
from liver_jax.cli_output import TERMINAL, check_json
from liver_jax.commands_scoring import SCORING
from liver_jax.config import Config
from liver_jax.errors import UserError
from liver_jax.runtime.distributed import is_first
from liver_jax.runtime.interrupt import unwinding

CONFIG = Flag('a config file, such as configs/lits.py; override a field with --config.data.raw=PATH')
BENCH_ROWS = ('step', 'data', 'train', 'eval', 'predict', 'start', 'scaling', 'all')
DEFAULT_CONFIG = str(Path(__file__).parent.parent / 'configs' / 'default.py')


def _phantom(values: FlagValues) -> None:
    from liver_jax.data.phantom import make_phantoms

    paths = make_phantoms(path_of(values.out), values.patients, values.seed)
    print(f'{len(paths)} synthetic volumes in {values.out}')


def _prepare(values: FlagValues) -> None:
    from liver_jax.data.prepare import prepare

    config = config_of(values).data
    if values.shard and values.merge:
        raise UserError('--shard and --merge were both given; expected --merge alone, once all shards are done')
    shard = _shard(values.shard) if values.shard else None
    with unwinding():
        made = prepare(config, shard, values.merge)
    print(f'shard {values.shard}: {made}' if shard else f'slice store: {made}')
    if shard:
        print('once all are done: the same command with --merge')


def _shard(text: str) -> tuple[int, int]:
    number, _, count = text.partition('/')
    if not (number.isdecimal() and count.isdecimal() and int(number) < int(count)):
        raise UserError(f'--shard={text}: expected i/n with i from 0 to n - 1, such as 0/4')
    return int(number), int(count)


def _inspect(values: FlagValues) -> None:
    from liver_jax.data.inspect import inspect_folder
    from liver_jax.report.inspection import write_inspection

    for flag in ('json', 'sheet', 'augment'):
        if values[flag].value and path_of(str(values[flag].value)).is_dir():
            raise UserError(f'--{flag}={values[flag].value}: a folder; expected the name of a file')
    config = config_of(values)
    data = dataclasses.replace(config.data, raw=str(path_of(values.dir))) if values.dir else config.data
    report, snapshots = inspect_folder(data, config.data.image_size if values.augment else 256)
    for line in write_inspection(report, snapshots, values.json, values.sheet, shutil.get_terminal_size().columns):
        print(line)
    if values.augment and snapshots:
        start_jax()
        import numpy as np

        from liver_jax.report.augmentation_sheet import draw_augmentation_sheet

        images, masks = (np.stack([getattr(each, name) for each in snapshots]) for name in ('image', 'tumor'))
        draw_augmentation_sheet(path_of(values.augment), images, masks, config.augment, config.seed)
        print(f'written: {values.augment}', file=sys.stderr if values.json == '-' else sys.stdout)
    refused = [case['case'] for case in report['cases'] if case['verdict'] == 'refuse']
    if refused:
        names = ', '.join(refused[:5]) + (', …' if len(refused) > 5 else '')
        count = f'{len(refused)} of {len(report["cases"])}'
        raise UserError(f'{data.raw}: {count} cases are refused ({names}); mend them or move them away')


def _train(values: FlagValues) -> None:
    _start_training(config_of(values))
    from liver_jax.training.loop import train

    workdir = train(config_of(values), path_of(values.workdir))
    if is_first():
        print(f'trained: {workdir}\nscore it with: liver-jax evaluate --workdir={workdir}')


def _start_training(config: Config) -> None:
    sizes = config.train.batch_size // config.train.accumulate, config.eval.batch_size
    start_jax(config.train.deterministic, together=True, batch_sizes=sizes)


def _replay(values: FlagValues) -> None:
    from liver_jax.training.flight import read_flight

    flight = read_flight(path_of(values.record))
    start_jax(flight.config.train.deterministic)
    from liver_jax.training.replay import replay

    print(replay(flight))


def _compare(values: FlagValues) -> None:
    _start_training(config_of(values))
    from liver_jax.compare import compare

    table = compare(config_of(values), path_of(values.workdir), shutil.get_terminal_size().columns)
    if is_first():
        print(table)


def _report(values: FlagValues) -> None:
    start_jax()
    from liver_jax.report.html import write_report

    workdir = path_of(values.workdir)
    out = path_of(values.out) if values.out else workdir / 'report.html'
    size, renamed = write_report(workdir, out, _default_config())
    for shown, name in renamed.items():
        print(f'{shown} in the page: {name} (names that may be of people stay out of it)')
    print(f'written: {out} ({size / 1e6:.1f} MB)')


def _bench(values: FlagValues) -> None:
    check_json(values.json)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: processes it has started end, folders go
    from liver_jax.bench.plan import ON_CPU

    config = config_of(values)
    sizes = [case.batch_size for case in ON_CPU]
    start_jax(batch_sizes=(*sizes, config.train.batch_size, config.eval.batch_size))
    from liver_jax.bench.run import bench

    show = (lambda text: None) if values.json == TERMINAL else partial(print, flush=True)
    file = path_of(values.json) if values.json not in ('', TERMINAL) else None
    results = bench(config, values.row, values.peers, ' '.join(['liver-jax', *sys.argv[1:]]), show, file)
    if values.json == TERMINAL:
        from liver_jax.runtime.run_folder import json_text

        print(json_text(results))


def _default_config() -> Config | None:
    """What configs/default.py says; an installed wheel has no configs."""
    if not Path(DEFAULT_CONFIG).exists():
        return None
    return config_of(parse_flags('report', Command('', {'config': CONFIG}, _report), [f'--config={DEFAULT_CONFIG}']))


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
        resumes=True,
    ),
    'train': Command('train one network', {'config': CONFIG, 'workdir': WORKDIR}, _train, resumes=True),
    **SCORING,
    'replay': Command(
        'compute the step of a flight record again, and show where a number that is not finite comes from',
        {'record': Flag('the record, such as runs/first/flight-120')},
        _replay,
        word='record',
    ),
    'compare': Command(
        'train both networks alike, score them, write table and pictures',
        {'config': CONFIG, 'workdir': WORKDIR},
        _compare,
        resumes=True,
    ),
    'report': Command(
        'make one HTML page of a finished comparison or run, to read offline and to hand on',
        {'workdir': WORKDIR, 'out': Flag('the page (default: report.html in the run folder)', '')},
        _report,
        resumes=True,
    ),
    'bench': Command(
        'measure this machine, with networks and batches that suit it; on synthetic CT where there is no store',
        {
            'row': Flag(f'{", ".join(BENCH_ROWS[:-1])} or all', 'all', BENCH_ROWS),
            'peers': Flag('beside PyTorch and MONAI, of the extra `bench`, in turns in one process', False),
            'config': Flag(f'{CONFIG.help}; its data, augmentation, loss and optimizer count', DEFAULT_CONFIG),
            'json': Flag(
                'write the numbers to this file after every row, without a value to the terminal', '', bare='-'
            ),
        },
        _bench,
        word='row',
    ),
}
