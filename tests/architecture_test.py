"""The house: imports point one way, one importer for each big library, no JAX in what grain's workers import."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / 'liver_jax'
FILES = sorted(PACKAGE.rglob('*.py'))

# A room may import the rooms below it. `errors` and `config` are the ground.
FLOORS = {
    'errors': 0, 'config_fields': 1, 'files': 1, 'config_training': 2, 'config': 3,
    'models': 4, 'data': 4, 'metrics': 4, 'runtime': 4,
    'evaluation': 5,
    'training': 6, 'report': 6,
    'pairs': 7, 'bench': 7,
    'compare': 8,
    'cli_flags': 9, 'cli_output': 9, 'commands_scoring': 10, 'commands': 11, 'cli': 12, '__main__': 13,
}  # fmt: skip
KNOWS_NOTHING_OF_OURS = ('errors', 'models', 'metrics')
SOLE_IMPORTERS = {
    'nibabel': 'data/formats/nifti.py',
    'orbax': 'runtime/orbax_manager.py',
    'tensorboardX': 'runtime/telemetry.py',
    'tensorstore': 'runtime/orbax_manager.py',
    'skimage': 'metrics/ssim.py',
    'pydicom': 'data/formats/dicom_files.py',
    'highdicom': 'data/formats/dicom_seg.py',
}


def imports(path: Path) -> set[str]:
    """Full names of all that a file imports, at the top or within."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f'{path}: relative import'
            names |= {node.module or ''} | {f'{node.module}.{alias.name}' for alias in node.names}
    return names


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix('.py')


# All of data but what runs on the device: spawned processes import it, and JAX would take them seconds.
WORKER_MODULES = [path for path in FILES if room(path) == 'data' and path.stem != 'augment']


@pytest.mark.parametrize('path', FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downwards(path):
    own = room(path)
    if own == '__init__':
        assert not [name for name in imports(path) if name.startswith('liver_jax')]
        return
    for name in imports(path):
        parts = name.split('.')
        if parts[0] != 'liver_jax' or len(parts) < 2 or parts[1] in (own, '__version__'):
            continue
        assert own not in KNOWS_NOTHING_OF_OURS, f'{own} knows nothing of ours, but imports {name}'
        assert FLOORS[parts[1]] < FLOORS[own], f'{own} imports {name}, which is not on a lower floor'


def test_every_room_has_its_floor():
    assert {room(path) for path in FILES} - {'__init__'} == set(FLOORS)


@pytest.mark.parametrize(('library', 'file'), SOLE_IMPORTERS.items())
def test_one_importer_each(library, file):
    importers = {path for path in FILES if any(name.split('.')[0] == library for name in imports(path))}
    assert importers == {PACKAGE / file}


@pytest.mark.parametrize('path', WORKER_MODULES, ids=lambda path: path.stem)
def test_no_jax_in_what_workers_import(path):
    assert not {name.split('.')[0] for name in imports(path)} & {'jax', 'flax', 'optax'}
