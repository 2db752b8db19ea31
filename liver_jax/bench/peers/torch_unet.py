"""The U-Net of `liver_jax.models` in PyTorch, as one would write it there, and our weights for it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional


class TorchUNet(nn.Module):
    """[N, 1, H, W] -> logits [N, 1, H, W]; batch norm, max-pooling, 2x2 transposed convolutions with stride 2."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(depth + 1)]
        self.encoders = nn.ModuleList(map(_block, [1, *widths[:-2]], widths[:-1]))
        self.bridge = _block(widths[-2], widths[-1])
        self.ups = nn.ModuleList(nn.ConvTranspose2d(2 * wide, wide, 2, stride=2) for wide in widths[:-1])
        self.decoders = nn.ModuleList(_block(2 * wide, wide) for wide in widths[:-1])
        self.logits = nn.Conv2d(width, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of the images."""
        skips = []
        for encoder in self.encoders:
            x = encoder(x)
            skips.append(x)
            x = functional.max_pool2d(x, 2)
        x = self.bridge(x)
        for skip, up, decoder in zip(reversed(skips), reversed(self.ups), reversed(self.decoders), strict=True):
            x = decoder(torch.cat([skip, up(x)], dim=1))
        return self.logits(x)


def load_variables(net: TorchUNet, variables: Mapping[str, Any]) -> None:
    """Copy `params` and `batch_stats` of our U-Net, so that both compute the same.

    Ours has a bias for each of the four pixels that an up-sampling makes of one, PyTorch's one for all four. They are
    equal (zero) at the start, which is what this is for.

    Raises:
        ValueError: they are not equal.
    """
    params, stats = variables['params'], variables['batch_stats']
    depth = len(net.encoders)
    blocks = {'bridge': net.bridge}
    blocks |= {f'encoder{level}': net.encoders[level] for level in range(depth)}
    blocks |= {f'decoder{level}': net.decoders[level] for level in range(depth)}
    with torch.no_grad():
        for name, block in blocks.items():
            for number in range(2):
                conv, norm = block[3 * number], block[3 * number + 1]
                _copy(conv.weight, params[name][f'Conv_{number}']['kernel'].transpose(3, 2, 0, 1))
                scale, moving = params[name][f'BatchNorm_{number}'], stats[name][f'BatchNorm_{number}']
                for target, source in (
                    (norm.weight, scale['scale']), (norm.bias, scale['bias']),
                    (norm.running_mean, moving['mean']), (norm.running_var, moving['var']),
                ):  # fmt: skip
                    _copy(target, source)
        for level in range(depth):
            _load_up(net.ups[level], params[f'up{level}']['Dense_0'])
        _copy(net.logits.weight, params['logits']['kernel'].T[:, :, None, None])
        _copy(net.logits.bias, params['logits']['bias'])


def _load_up(up: Any, dense: Mapping[str, Any]) -> None:
    """A matrix [C, 2 · 2 · F] that makes four pixels of one, as a transposed convolution [C, F, 2, 2]."""
    channels, features = up.weight.shape[:2]
    _copy(up.weight, dense['kernel'].reshape(channels, 2, 2, features).transpose(0, 3, 1, 2))
    biases = np.asarray(dense['bias']).reshape(4, features)
    if not (biases == biases[0]).all():
        raise ValueError('the four biases of an up-sampled pixel differ')
    _copy(up.bias, biases[0])


def _block(inputs: int, features: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (inputs, features):
        conv = nn.Conv2d(channels, features, 3, padding=1, bias=False)
        layers += [conv, nn.BatchNorm2d(features), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def _copy(target: torch.Tensor, source: Any) -> None:
    target.copy_(torch.from_numpy(np.array(source, np.float32)))
