"""Compiled programs are kept in the user's cache folder, so that a second start is quick."""

import os
from pathlib import Path

import jax


def use_compile_cache() -> None:
    """Turn the cache on, in JAX_COMPILATION_CACHE_DIR or a folder of the user."""
    if not os.environ.get('JAX_COMPILATION_CACHE_DIR'):
        home = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache')
        jax.config.update('jax_compilation_cache_dir', str(home / 'liver_jax' / 'xla'))
