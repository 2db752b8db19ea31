"""The original study's protocol: tumour slices, slices split at random, 128x128, Adam and BCE, early stopping.

    liver-jax compare --config=configs/original_study.py --config.data.raw=PATH --workdir=runs/original
    ... --config.data.target=tumor        # tumour alone; the study's numbers fit the merged target

Neighbouring slices of one patient land on both sides of this split, so its scores say little about new patients:
every table and picture carries the warning. The study reports Dice .9465 (U-Net) and .9621 (ResU-Net).
"""

from ml_collections import ConfigDict

from configs import default


def get_config(augment: str = 'light') -> ConfigDict:
    """Small networks (1.9 M parameters in the U-Net), so that a CPU can follow."""
    config = default.get_config(augment)
    config.data.store = 'stores/original'
    config.data.target = 'liver_or_tumor'
    config.split.by = 'slice'
    config.model.width = 16
    config.train.batch_size = 8
    config.train.epochs = 60
    return config.lock()
