"""Residual U-Net (after Zhang, Liu and Wang, IEEE GRSL 2018): the U-Net with residual blocks throughout."""

from flax import linen as nn

from liver_jax.models.blocks import ResidualBlock
from liver_jax.models.encoder_decoder import EncoderDecoder


class ResUNet(EncoderDecoder):
    """Residual blocks in encoder, bridge and decoder. Shapes: see `EncoderDecoder`."""

    block: type[nn.Module] = ResidualBlock
