"""U-Net (Ronneberger, Fischer and Brox, MICCAI 2015) with normalisation and padded convolutions."""

from flax import linen as nn

from liver_jax.models.blocks import ConvBlock
from liver_jax.models.encoder_decoder import EncoderDecoder


class UNet(EncoderDecoder):
    """Two 3x3 convolutions with normalisation and ReLU per level. Shapes: see `EncoderDecoder`."""

    block: type[nn.Module] = ConvBlock
