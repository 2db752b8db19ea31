"""Eight fake devices, quick compiles kept between runs. Environment first: JAX reads it when it is imported."""

import os
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parent.parent
os.environ['JAX_DISABLE_MOST_OPTIMIZATIONS'] = '1'
os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['JAX_COMPILATION_CACHE_DIR'] = str(ROOT / '.cache' / 'xla-tests')
os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'
os.environ['JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES'] = '-1'
os.environ['JAX_NUM_CPU_DEVICES'] = '8'
if version('jaxlib').startswith('0.10.'):  # others do not know this flag, which compiles in two thirds of the time
    os.environ['XLA_FLAGS'] = os.environ.get('XLA_FLAGS', '') + ' --xla_cpu_use_fusion_emitters=false'

import pytest  # noqa: E402

from liver_jax.config import Config  # noqa: E402
from small_ct import small_config, write_cases  # noqa: E402


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """With real volumes at hand nothing may be skipped."""
    if report.skipped and os.environ.get('LIVER_JAX_LITS'):
        report.outcome = 'failed'
        report.longrepr = f'skipped though LIVER_JAX_LITS is set: {report.longrepr}'


@pytest.fixture(scope='session')
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight small cases of eight patients, Kaggle layout."""
    return write_cases(tmp_path_factory.mktemp('raw'), 8)


@pytest.fixture(scope='session')
def config(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A small experiment on `raw`, its store prepared."""
    from liver_jax.data.prepare import prepare

    config = small_config(raw, tmp_path_factory.mktemp('stores') / 'store')
    prepare(config.data)
    return config
