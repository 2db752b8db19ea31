"""LiTS, the honest protocol: tumour slices, split by patient, full-width networks.

    liver-jax compare --config=configs/lits.py --config.data.raw=PATH --workdir=runs/lits

Expect Dice per image far below the .95 of slice-split studies: published tumour Dice per case is .64-.74.
The 131 volumes take about half an hour to prepare on two cores; training wants a GPU.
"""

from ml_collections import ConfigDict

from configs import default


def get_config(augment: str = 'light') -> ConfigDict:
    """Width 64 (31 M parameters in the U-Net), bfloat16 activations."""
    config = default.get_config(augment)
    config.data.workers = 4
    config.model.width = 64
    config.model.dtype = 'bfloat16'
    config.train.batch_size = 32
    config.train.epochs = 100
    return config.lock()
