"""The demo: synthetic CT, small networks, a few minutes on two cores.

    liver-jax phantom --out=demo/raw --patients=16 --seed=0
    liver-jax compare --config=configs/quickstart.py --workdir=demo/run

`make demo` runs both. Shows that everything works; its scores say nothing about real CT.
"""

from ml_collections import ConfigDict

from configs import default


def get_config(augment: str = 'light') -> ConfigDict:
    """64x64 slices and 0.5 M parameters."""
    config = default.get_config(augment)
    config.data.raw = 'demo/raw'
    config.data.store = 'demo/store'
    config.data.image_size = 64
    config.model.width = 16
    config.model.depth = 3
    config.train.batch_size = 8
    config.train.epochs = 16
    config.optim.learning_rate = 2e-3
    return config.lock()
