"""The commands of `liver-jax`: their flags and the one call each makes. Heavy modules are imported when they run."""

import shutil
from pathlib import Path

from absl.flags import FlagValues

from liver_jax.cli_flags import Command, Flag, config_of

CONFIG = Flag('a config file, such as configs/lits.py; override a field with --config.data.raw=PATH')
WORKDIR = Flag('the run folder, such as runs/first')


def _phantom(values: FlagValues) -> None:
    from liver_jax.data.phantom import make_phantoms

    paths = make_phantoms(_path(values.out), values.patients, values.seed)
    print(f'{len(paths)} synthetic volumes in {values.out}')


def _prepare(values: FlagValues) -> None:
    from liver_jax.data.prepare import prepare

    print(f'slice store: {prepare(config_of(values).data)}')


def _train(values: FlagValues) -> None:
    _start_jax()
    from liver_jax.training.loop import train

    workdir = train(config_of(values), _path(values.workdir))
    print(f'trained: {workdir}\nscore it with: liver-jax evaluate --workdir={workdir}')


def _evaluate(values: FlagValues) -> None:
    _start_jax()
    from liver_jax.evaluation.run import evaluate_run
    from liver_jax.report.tables import evaluation_text

    raw = _path(values.raw) if values.raw else None
    results = evaluate_run(_path(values.workdir), values.checkpoint, values.split, raw)
    print(evaluation_text(results, shutil.get_terminal_size().columns))
    print(f'written: {_path(values.workdir) / "evaluation" / results["split"]}.json')


def _compare(values: FlagValues) -> None:
    _start_jax()
    from liver_jax.compare import compare

    print(compare(config_of(values), _path(values.workdir), shutil.get_terminal_size().columns))


def _bench_data(values: FlagValues) -> None:
    _start_jax()
    from liver_jax.bench.data import bench_data, data_text
    from liver_jax.runtime.run_folder import write_json

    results = bench_data(config_of(values))
    print(data_text(results))
    if values.json:
        write_json(_path(values.json), results)


def _path(text: str) -> Path:
    return Path(text).expanduser()


def _start_jax() -> None:
    from liver_jax.runtime.compile_cache import use_compile_cache

    use_compile_cache()


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
    'prepare': Command('turn raw volumes into the slice store that training reads', {'config': CONFIG}, _prepare),
    'train': Command('train one network', {'config': CONFIG, 'workdir': WORKDIR}, _train),
    'evaluate': Command(
        'score a checkpoint; needs the run folder alone',
        {
            'workdir': WORKDIR,
            'checkpoint': Flag('best, latest or a step', 'best'),
            'split': Flag('part of the split to score: val or test', 'test', ('val', 'test')),
            'raw': Flag('score this folder of other volumes instead, prepared the same way', ''),
        },
        _evaluate,
    ),
    'compare': Command(
        'train both networks alike, score them, write table and pictures',
        {'config': CONFIG, 'workdir': WORKDIR},
        _compare,
    ),
    'bench data': Command(
        'measure what each stage from store to device delivers; makes up slices where there is no store',
        {
            'config': Flag(CONFIG.help, str(Path(__file__).parent.parent / 'configs' / 'default.py')),
            'json': Flag('file for the numbers', ''),
        },
        _bench_data,
    ),
}
