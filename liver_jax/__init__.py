"""liver_jax: train and compare U-Net and Residual U-Net for liver tumour segmentation in CT, in JAX."""

__version__ = '0.1.0'
