"""What a run says of itself before it starts."""

import logging

from liver_jax.config import Config
from liver_jax.data.splits import Split
from liver_jax.models import DISPLAY_NAMES, build_model, describe_model

log = logging.getLogger(__name__)


def model_line(config: Config) -> str:
    """The network with its number of parameters and FLOPs, for the log."""
    model = describe_model(build_model(config.model), config.data.image_size)
    name, parameters = DISPLAY_NAMES[config.model.name], model['parameters'] / 1e6
    return f'{name}: {parameters:.2f} M parameters, {model["gflops"]:.2f} GFLOPs per slice (forward)'


def announce(config: Config, split: Split, devices: int) -> None:
    """Log network, target, devices, split and slices."""
    log.info('%s; target %s; %d device(s)', model_line(config), config.data.target, devices)
    parts = ', '.join(f'{part} {numbers["slices"]}' for part, numbers in split.counts.items())
    log.info('%s; slices: %s', split.certificate['sentence'], parts)
    if split.warning:
        log.warning('%s', split.warning)
