"""One Residual U-Net on its own.

    liver-jax train --config=configs/resunet.py --config.data.raw=PATH --workdir=runs/resunet
    liver-jax evaluate --workdir=runs/resunet

Needs a prepared store: `liver-jax prepare --config=configs/resunet.py --config.data.raw=PATH` first.
"""

from ml_collections import ConfigDict

from configs import default


def get_config(augment: str = 'light') -> ConfigDict:
    """The default experiment with the Residual U-Net."""
    config = default.get_config(augment)
    config.model.name = 'resunet'
    return config.lock()
