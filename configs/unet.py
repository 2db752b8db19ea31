"""One U-Net on its own.

    liver-jax train --config=configs/unet.py --config.data.raw=PATH --workdir=runs/unet
    liver-jax evaluate --workdir=runs/unet

Needs a prepared store: `liver-jax prepare --config=configs/unet.py --config.data.raw=PATH` first.
"""

from ml_collections import ConfigDict

from configs import default


def get_config(augment: str = 'light') -> ConfigDict:
    """The default experiment with the U-Net."""
    config = default.get_config(augment)
    config.model.name = 'unet'
    return config.lock()
