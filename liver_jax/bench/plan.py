"""What is measured on which kind of device: small networks on a CPU, large ones on an accelerator."""

import dataclasses
from typing import Literal

from liver_jax.config import Config
from liver_jax.models import DISPLAY_NAMES


@dataclasses.dataclass(frozen=True)
class Case:
    """One network at one precision and batch size; with `peers` it is worth measuring them beside it."""

    name: Literal['unet', 'resunet']
    width: int
    dtype: Literal['float32', 'bfloat16']
    batch_size: int
    peers: bool = False


@dataclasses.dataclass(frozen=True)
class Plan:
    """The config (images, augmentation, loss, optimizer, data), cases of row `step`, the first of them for all rows.

    A turn of a side takes about `seconds`; a case that begins when `step` has taken `budget` seconds is left out. The
    loop is run for `steps`, evaluation on so many `slices`.
    """

    config: Config
    cases: tuple[Case, ...]
    steps: int
    slices: int
    seconds: float
    budget: float
    peers: bool = False

    def case_config(self, case: Case) -> Config:
        """The config of a case."""
        model = dataclasses.replace(self.config.model, name=case.name, width=case.width, dtype=case.dtype)
        train = dataclasses.replace(self.config.train, batch_size=case.batch_size, accumulate=1)
        return dataclasses.replace(self.config, model=model, train=train)


ON_CPU = (
    Case('unet', 16, 'float32', 8, peers=True),
    Case('resunet', 16, 'float32', 8),
    Case('unet', 32, 'float32', 8, peers=True),
    Case('unet', 16, 'float32', 16),
    Case('unet', 16, 'bfloat16', 8, peers=True),
    Case('resunet', 16, 'bfloat16', 8),
)
ON_ACCELERATOR = (
    Case('unet', 64, 'bfloat16', 64, peers=True),
    Case('unet', 16, 'bfloat16', 64, peers=True),
    Case('unet', 64, 'bfloat16', 256, peers=True),
    Case('unet', 64, 'float32', 64, peers=True),
    Case('resunet', 64, 'bfloat16', 64),
    Case('unet', 64, 'bfloat16', 16, peers=True),
    Case('resunet', 64, 'float32', 64),
    Case('unet', 64, 'float32', 16),
    Case('unet', 64, 'float32', 256),
    Case('resunet', 64, 'bfloat16', 256),
)


def make_plan(config: Config, backend: str, peers: bool, alone: bool) -> Plan:
    """The plan for a JAX backend; row `step` has more time if it is `alone`."""
    if backend == 'cpu':
        return Plan(config, ON_CPU, steps=12, slices=64, seconds=1.0, budget=1200 if peers else 150, peers=peers)
    return Plan(config, ON_ACCELERATOR, steps=70, slices=2048, seconds=0.3, budget=400 if alone else 100, peers=peers)


def case_name(case: Case) -> str:
    """A case in a few words: U-Net/64 bf16 ×16."""
    dtype = {'float32': 'f32', 'bfloat16': 'bf16'}[case.dtype]
    return f'{DISPLAY_NAMES[case.name]}/{case.width} {dtype} ×{case.batch_size}'
