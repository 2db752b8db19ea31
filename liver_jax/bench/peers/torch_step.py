"""Train steps of PyTorch, each a `timing.Side`: the same U-Net in the ways one would run it, and MONAI's UNet."""

import contextlib
import dataclasses
import itertools
import logging
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import torch
from monai.networks.nets import UNet as MonaiUNet
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from liver_jax.bench.peers.torch_unet import TorchUNet, load_variables
from liver_jax.config import Config
from liver_jax.errors import UserError

log = logging.getLogger(__name__)
# What the twin supports of a config; of other values there is nothing to measure beside ours.
SUPPORTED = {
    'model.norm': 'batch', 'model.upsample': 'transpose', 'model.remat': False, 'loss.name': 'bce',
    'optim.name': 'adam', 'optim.clip_norm': 0, 'optim.ema_decay': 0, 'augment.flip_rows': 0, 'augment.blur': 0,
    'augment.factor': 0, 'augment.coarsen': 0, 'augment.gamma_inverted': 0,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Variant:
    """A way to run a network."""

    channels_last: bool = False
    compiled: bool = False
    monai: bool = False


VARIANTS = {
    'torch eager': Variant(),
    'torch channels-last': Variant(channels_last=True),
    'torch compile': Variant(channels_last=True, compiled=True),
    'MONAI UNet': Variant(channels_last=True, monai=True),
}


def check_peers(config: Config) -> None:
    """Raise UserError where PyTorch would do something else than this config, or not on the same kind of device."""
    for field, expected in SUPPORTED.items():
        part, name = field.split('.')
        found = getattr(getattr(config, part), name)
        if found != expected:
            raise UserError(f'config field {field} is {found!r}; expected {expected!r} with --peers, or no --peers')
    if jax.default_backend() != 'cpu' and not torch.cuda.is_available():
        raise UserError('--peers: JAX computes on a GPU and PyTorch sees none; expected a PyTorch built for CUDA')


def torch_sides(
    config: Config, batches: list[dict[str, np.ndarray]], variables: Mapping[str, Any]
) -> tuple[dict[str, 'TorchStep'], dict[str, str]]:
    """The variants that run, after one step each, and why the others do not."""
    sides, failed = {}, {}
    for name, variant in VARIANTS.items():
        try:
            side = TorchStep(config, variant, batches, variables)
            side(1)
            sides[name] = side
        except RuntimeError as error:  # no memory, no compiler
            failed[name] = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            log.warning('step: %s: %s', name, failed[name])
    return sides, failed


class TorchStep:
    """Steps of Adam on the binary cross-entropy of rotating batches, from our initial weights."""

    def __init__(
        self, config: Config, variant: Variant, batches: list[dict[str, np.ndarray]], variables: Mapping[str, Any]
    ) -> None:
        self._device = torch.device('cpu' if jax.default_backend() == 'cpu' else 'cuda')
        torch.set_float32_matmul_precision('high')  # TF32 where the device has it, as in JAX and PyTorch's convolutions
        torch.backends.cudnn.benchmark = True
        layout = torch.channels_last if variant.channels_last else torch.contiguous_format
        net = _network(config, variant)
        if not variant.monai:
            load_variables(net, variables)
        net = net.to(self._device, memory_format=layout).train()
        self.facts: dict[str, Any] = {
            'parameters': sum(each.numel() for each in net.parameters()),
            'step_flops_per_slice': _step_flops(config, variant),
            'memory_bytes': None,
        }
        self._net = torch.compile(net) if variant.compiled else net
        rate, betas = config.optim.learning_rate, (config.optim.b1, config.optim.b2)
        self._optimizer = torch.optim.Adam(net.parameters(), rate, betas, fused=True)
        self._autocast = config.model.dtype == 'bfloat16'
        self._batches = itertools.cycle(
            [tuple(self._put(batch[name], layout) for name in ('image', 'mask')) for batch in batches]
        )

    def __call__(self, calls: int) -> None:
        """Take so many steps, and wait for the last one."""
        if self._device.type == 'cuda':
            torch.cuda.reset_peak_memory_stats()
        for _ in range(calls):
            loss = self._step(*next(self._batches))
        self.facts.setdefault('first_loss', loss.item())
        if self._device.type == 'cuda':
            torch.cuda.synchronize()
            self.facts['memory_bytes'] = torch.cuda.max_memory_allocated()

    def _step(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        self._optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self._device.type, torch.bfloat16) if self._autocast else contextlib.nullcontext():
            logits = self._net(image)
        loss = functional.binary_cross_entropy_with_logits(logits.float(), mask)
        loss.backward()
        self._optimizer.step()
        return loss.detach()

    def _put(self, array: np.ndarray, layout: torch.memory_format) -> torch.Tensor:
        """[N, H, W, 1] -> [N, 1, H, W] on the device."""
        tensor = torch.from_numpy(np.array(array.transpose(0, 3, 1, 2), order='C'))
        return tensor.to(self._device, memory_format=layout)


def _network(config: Config, variant: Variant) -> Any:
    """Our U-Net's twin, or MONAI's UNet with the same channels: strided convolutions, its own number of layers."""
    width, depth = config.model.width, config.model.depth
    if variant.monai:
        channels = [width * 2**level for level in range(depth + 1)]
        return MonaiUNet(2, 1, 1, channels, strides=[2] * depth, norm='batch', act='relu')
    return TorchUNet(width, depth)


def _step_flops(config: Config, variant: Variant) -> float:
    """FLOPs of a step by slice, as PyTorch's counter has them; on shapes alone."""
    side = config.data.image_size
    with torch.device('meta'), FlopCounterMode(display=False) as counter:
        logits = _network(config, variant)(torch.zeros(1, 1, side, side))
        functional.binary_cross_entropy_with_logits(logits, torch.zeros_like(logits)).backward()
    return float(counter.get_total_flops())
