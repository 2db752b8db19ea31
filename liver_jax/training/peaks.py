"""What devices can compute at most, for the share of it that training reaches (model FLOP utilisation).

Dense peaks in TFLOP/s by JAX's name of the device, without sparsity, with accumulation in float32: for activations in
bfloat16, and for those in float32 as JAX multiplies them unless told otherwise, which is in TF32 on NVIDIA since
Ampere and in bfloat16 on TPU (docs.jax.dev, "Matmul precision"). From the data sheets "NVIDIA V100", "A100", "H100",
"H200", "L4", "L40S" and "A10G", the white papers "NVIDIA Ampere GA102" and "NVIDIA Ada GPU architecture" (GeForce), and
cloud.google.com/tpu/docs, "TPU v4", "v5e", "v5p". A part of a GPU (MIG) has a name of its own and is not known.
"""

import math

import jax

from liver_jax.config import ModelConfig
from liver_jax.models import build_model, describe_model

_A100, _H100, _H100_PCIE, _H100_NVL = (312.0, 156.0), (989.4, 494.7), (756.0, 378.0), (835.0, 417.5)
_NONE = math.nan  # computes it, but not in its matrix units
PEAKS = {
    'Tesla V100-SXM2-16GB': (_NONE, 15.7),
    'Tesla V100-SXM2-32GB': (_NONE, 15.7),
    'Tesla V100-PCIE-16GB': (_NONE, 14.0),
    'Tesla V100-PCIE-32GB': (_NONE, 14.0),
    'NVIDIA A100-SXM4-40GB': _A100,
    'NVIDIA A100-SXM4-80GB': _A100,
    'NVIDIA A100-PCIE-40GB': _A100,
    'NVIDIA A100 80GB PCIe': _A100,
    'NVIDIA H100 80GB HBM3': _H100,
    'NVIDIA H100 PCIe': _H100_PCIE,
    'NVIDIA H100 NVL': _H100_NVL,
    'NVIDIA H200': _H100,
    'NVIDIA L4': (121.0, 60.0),
    'NVIDIA L40S': (362.05, 183.0),
    'NVIDIA A10G': (70.0, 35.0),
    'NVIDIA GeForce RTX 3090': (71.0, 35.6),
    'NVIDIA GeForce RTX 4090': (165.2, 82.6),
    'TPU v4': (275.0, 275.0),
    'TPU v5 lite': (197.0, 197.0),
    'TPU v5': (459.0, 459.0),
    'TPU v5p': (459.0, 459.0),
}


def peak_flops(device_kind: str, dtype: str) -> float | None:
    """FLOP/s that a device can reach with activations of this dtype; None where that is not known."""
    multiplication: str | None = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
    if dtype == 'float32' and multiplication is not None:
        return None  # another way was chosen than the table speaks of
    bfloat16, float32 = PEAKS.get(device_kind, (math.nan, math.nan))
    peak = bfloat16 if dtype == 'bfloat16' else float32
    return None if math.isnan(peak) else peak * 1e12


def slices_at_peak(config: ModelConfig, image_size: int, device_kind: str) -> float | None:
    """Slices per second that a device at its peak would train on; None where the peak is not known.

    Training is counted as three forward passes: the backward pass multiplies twice as much as the forward pass
    (as in PaLM, Chowdhery et al. 2022, appendix B). Computing activations again does not count, nor does the optimizer.
    """
    peak = peak_flops(device_kind, config.dtype)
    return peak and peak / (3e9 * describe_model(build_model(config), image_size)['gflops'])
