"""The command line as a user meets it: real processes, exit codes, one line per error."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from liver_jax.data.formats.nifti import write_nifti

ROOT = Path(__file__).parent.parent
COMMANDS = {
    'phantom': ['--out', '--patients', '--seed'],
    'inspect': ['--dir', '--config', '--json', '--sheet', '--augment'],
    'prepare': ['--config', '--shard', '--merge'],
    'train': ['--config', '--workdir'],
    'evaluate': [
        '--workdir',
        '--checkpoint',
        '--split',
        '--raw',
        '--images',
        '--labels',
        '--keep_training_cases',
        '--store',
        '--watch',
    ],
    'score': ['--prediction', '--reference', '--probabilities', '--json', '--labels'],
    'predict': [
        '--workdir',
        '--input',
        '--output',
        '--checkpoint',
        '--liver_workdir',
        '--flips',
        '--fitted',
        '--min_ml',
        '--largest_component',
        '--probabilities',
        '--json',
    ],
    'replay': ['--record'],
    'compare': ['--config', '--workdir'],
    'report': ['--workdir', '--out'],
    'bench': ['--row', '--peers', '--config', '--json'],
}
CONFIG = '--config=configs/default.py'


def liver_jax(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, '-m', 'liver_jax', *map(str, arguments)]
    return subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=60)


def refused(run: subprocess.CompletedProcess[str]) -> str:
    """The one line of the error, after checking that it is one and that all else is log."""
    *log, line = run.stderr.splitlines()
    assert run.returncode == 2
    assert line.startswith('liver-jax: ')
    assert not [each for each in log if each.startswith(('liver-jax: ', 'Traceback', ' '))]
    assert run.stdout == ''
    return line.removeprefix('liver-jax: ')


def write_case(raw: Path, number: int, label: int = 2, image_slices: int = 3) -> None:
    raw.mkdir(exist_ok=True)
    labels = np.zeros((16, 16, 3), np.uint8)
    labels[4:8, 4:8, 1:] = label
    hu = np.random.default_rng(number).integers(-100, 200, (16, 16, image_slices)).astype(np.int16)
    write_nifti(raw / f'volume-{number}.nii.gz', hu, np.eye(4))
    write_nifti(raw / f'segmentation-{number}.nii.gz', labels, np.eye(4))


def test_help_lists_the_commands_and_imports_no_jax():
    run = liver_jax('--help')
    assert (run.returncode, run.stderr) == (0, '')
    assert [line[2:12].strip() for line in run.stdout.splitlines()[2:] if line[2] != ' '] == list(COMMANDS)
    program = "import sys; from liver_jax.cli import main\ntry: main()\nfinally: print('jax' in sys.modules)"
    quick = subprocess.run([sys.executable, '-c', program, '--help'], capture_output=True, text=True)
    assert quick.stdout.endswith('False\n')  # or else it would take seconds


@pytest.mark.parametrize('name', COMMANDS)
def test_help_of_a_command_shows_its_flags(name):
    run = liver_jax(*name.split(), '--help')
    assert (run.returncode, run.stderr) == (0, '')
    assert run.stdout.startswith(f'usage: liver-jax {name} ')
    assert [line.split()[0] for line in run.stdout.splitlines() if line.startswith('  --')] == COMMANDS[name]


def test_no_command_shows_the_help():
    run = liver_jax()
    assert run.returncode == 0
    assert run.stdout.startswith('usage: liver-jax COMMAND')


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (['prepre'], "command 'prepre' is not known; did you mean 'prepare'?"),
        (
            ['--verbose'],
            "command '--verbose' is not known; known: phantom, inspect, prepare, train, evaluate, score, predict, ",
        ),
        (['bench', 'dtaa'], '--row=dtaa: value should be one of <step|data|train|eval|predict|start|scaling|all>'),
        (['bench', 'data', 'stray'], "'stray' is not a flag; expected --flag=value, see liver-jax bench --help"),
        (
            ['bench', 'step', '--peers'],
            "torch and monai not installed; pip install -e '.[bench]'",
        ),
        (['bench', '--json=nowhere/x'], '--json=nowhere/x: nowhere is no folder'),
        (['bench', 'data', '--config=none.py'], '--config=none.py: no such file'),
        (['evaluate', '--workdri=x'], "flag '--workdri' is not known; did you mean '--workdir'?"),
        (['prepare', CONFIG, '--config.data.rwa=x'], "field 'data.rwa' is not known; did you mean 'data.raw'?"),
        (['train', CONFIG, '--config.optim.lr=1'], "'optim.lr' is not known; did you mean 'optim.learning_rate'?"),
        (['prepare', CONFIG, '--shard=2/2'], '--shard=2/2: expected i/n with i from 0 to n - 1'),
        (['prepare', CONFIG, '--shard=0/2', '--merge'], '--shard and --merge were both given'),
        (['inspect'], 'no folder given; expected liver-jax inspect DIR'),
        (['inspect', 'none'], 'none: no such folder'),
        (['inspect', 'one', 'two'], "'two' is not a flag"),
        (['prepare', CONFIG, 'stray'], "'stray' is not a flag; expected --flag=value"),
        (['prepare'], '--config is missing; expected a config file'),
        (['prepare', '--config='], '--config is missing; expected a config file'),
        (['prepare', '--config.data.raw=x'], '--config is missing; expected a config file'),
        (['prepare', '--config=none.py'], '--config=none.py: no such file'),
        (['train', CONFIG], '--workdir is missing; expected the run folder'),
        (['evaluate', '--workdir=x', '--split=train'], '--split=train: value should be one of <val|test>'),
        (['phantom', '--out=x', '--patients=-1'], '--patients=-1: -1 is not a non-negative integer'),
        (
            ['train', CONFIG + ':nnunt', '--workdir=x'],
            "'nnunt' (after the colon of --config) is not known; known: light",
        ),
        (
            ['prepare', CONFIG + ':nnunet', '--config.augment.blur=2'],
            'field augment.blur is 2.0; expected a probability',
        ),
        (['prepare', CONFIG, '--config.data.image_size=big'], '--config.data.image_size=big: invalid literal for int'),
        (['prepare', CONFIG, '--config.data.image_size=100'], 'data.image_size is 100; expected a multiple of 16'),
    ],
    ids=lambda value: ' '.join(value) if isinstance(value, list) else '',
)
def test_a_slip_on_the_command_line_is_an_error_of_one_line(arguments, said):
    assert said in refused(liver_jax(*arguments))


@pytest.mark.parametrize(
    ('code', 'said'),
    [
        ('def get_config(:', 'SyntaxError: invalid syntax'),
        ('import nowhere_to_be_found', "line 1: ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
        ('get_config = dict', 'get_config() gives no ConfigDict'),
        ('x = 1', "no attribute 'get_config'"),
        (
            'from configs import default\ndef get_config():\n  c = default.get_config()\n  c.optim.learning_rat = 1',
            'line 4: AttributeError: Did you mean "learning_rate" instead of "learning_rat"?',
        ),
    ],
)
def test_a_config_file_that_does_not_load_is_named(tmp_path, code, said):
    (tmp_path / 'mine.py').write_text(code)
    message = refused(liver_jax('prepare', f'--config={tmp_path}/mine.py'))
    assert said in message
    assert message.startswith(f'--config={tmp_path}/mine.py')


def without_segmentation(raw: Path) -> None:
    (raw / 'segmentation-1.nii.gz').unlink()


def not_a_volume(raw: Path) -> None:
    (raw / 'volume-1.nii.gz').write_text('404 not found')


def broken_link(raw: Path) -> None:
    (raw / 'volume-1.nii.gz').unlink()
    (raw / 'volume-1.nii.gz').symlink_to('nowhere')


def no_tumour(raw: Path) -> None:
    for number in range(2):
        write_case(raw, number, label=1)


def empty_folder(raw: Path) -> None:
    for path in raw.iterdir():
        path.unlink()


def wrong_folder(raw: Path) -> None:
    empty_folder(raw)
    (raw / 'scan.dcm').touch()


@pytest.mark.parametrize(
    ('spoil', 'said'),
    [
        (empty_folder, 'raw: no CT volume found among 0 files; expected volume-N.nii[.gz]'),
        (wrong_folder, 'raw: no CT volume found among 1 files; expected volume-N.nii[.gz]'),
        (without_segmentation, 'volume-1.nii.gz: no segmentation with the number 1'),
        (lambda raw: write_case(raw, 1, image_slices=4), 'segmentation-1.nii.gz: shape 16x16x3, but volume-1.nii.gz'),
        (not_a_volume, 'volume-1.nii.gz: not a readable NIfTI file'),
        (broken_link, 'volume-1.nii.gz: not a file, perhaps a link that leads nowhere'),
        (lambda raw: write_case(raw, 1, label=4), 'segmentation-1.nii.gz: labels 4; expected only 0'),
        (no_tumour, "raw: no slice left of 2 volumes with data.slices='tumor'"),
    ],
    ids=['empty', 'wrong', 'no segmentation', 'shapes', 'unreadable', 'link', 'labels', 'no slice'],
)
def test_bad_volumes_are_an_error_of_one_line_and_leave_no_store(
    tmp_path: Path, spoil: Callable[[Path], object], said: str
) -> None:
    for number in range(2):
        write_case(tmp_path / 'raw', number)
    spoil(tmp_path / 'raw')
    fields = [f'--config.data.{name}={tmp_path / name}' for name in ('raw', 'store')]
    assert said in refused(liver_jax('prepare', CONFIG, *fields, '--config.data.workers=1'))
    assert not (tmp_path / 'store').exists()


def test_prepare_makes_the_store_says_where_and_finds_it_again(tmp_path):
    write_case(tmp_path / 'raw', 0)
    fields = [f'--config.data.{name}={tmp_path / name}' for name in ('raw', 'store')]
    for logged in ('2 slices of 1 cases in', 'is already prepared'):
        run = liver_jax('prepare', CONFIG, *fields)
        assert run.returncode == 0
        assert run.stdout == f'slice store: {tmp_path / "store"}\n'
        assert logged in run.stderr


def test_training_with_fewer_patients_than_parts(tmp_path):
    for number in range(2):
        write_case(tmp_path / 'raw', number)
    fields = [f'--config.data.{name}={tmp_path / name}' for name in ('raw', 'store')]
    assert liver_jax('prepare', CONFIG, *fields, '--config.data.workers=1').returncode == 0
    message = refused(liver_jax('train', CONFIG, *fields, f'--workdir={tmp_path / "run"}'))
    assert 'slices of 2 patients; expected at least 3 for train, val and test' in message
    assert not (tmp_path / 'run').exists()


def test_scoring_a_folder_that_is_no_run(tmp_path):
    said = refused(liver_jax('evaluate', f'--workdir={tmp_path}'))
    assert said.startswith(f'{tmp_path}: no config.json there; expected a folder made by `liver-jax train`')
