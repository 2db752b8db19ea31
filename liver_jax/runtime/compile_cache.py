"""Compiled programs are kept in the user's cache folder, so that a second start is quick."""

import logging
import os
from pathlib import Path

import jax

log = logging.getLogger(__name__)


def use_compile_cache() -> None:
    """Turn the cache on, in JAX_COMPILATION_CACHE_DIR or a folder of the user."""
    if not os.environ.get('JAX_COMPILATION_CACHE_DIR'):
        home = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache')
        folder = home / 'liver_jax' / 'xla'
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            log.warning('%s: %s; compiled programs are not kept, every start compiles anew', folder, error.strerror)
            return
        jax.config.update('jax_compilation_cache_dir', str(folder))
