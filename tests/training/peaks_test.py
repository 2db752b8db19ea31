"""Peaks by device and precision; what is not known is left out."""

import dataclasses

import jax
import pytest

from liver_jax.training.peaks import PEAKS, peak_flops, slices_at_peak


def test_peaks_by_name_and_precision():
    assert peak_flops('NVIDIA H100 80GB HBM3', 'bfloat16') == pytest.approx(989.4e12)
    assert peak_flops('NVIDIA H100 80GB HBM3', 'float32') == pytest.approx(494.7e12)
    assert peak_flops('TPU v5 lite', 'float32') == 197e12


@pytest.mark.parametrize('name', ['cpu', 'NVIDIA A100-SXM4-40GB MIG 1g.5gb', 'NVIDIA H100', ''])
def test_an_unknown_device_has_none(name):
    assert peak_flops(name, 'bfloat16') is None
    assert peak_flops(name, 'float32') is None


def test_the_first_tensor_cores_know_no_bfloat16():
    assert peak_flops('Tesla V100-SXM2-16GB', 'bfloat16') is None
    assert peak_flops('Tesla V100-SXM2-16GB', 'float32') == 15.7e12


def test_float32_multiplied_in_another_way_has_none():
    with jax.default_matmul_precision('highest'):
        assert peak_flops('NVIDIA A100-SXM4-40GB', 'float32') is None
        assert peak_flops('NVIDIA A100-SXM4-40GB', 'bfloat16') == 312e12


def test_bfloat16_is_never_slower():
    assert all(not bfloat16 < float32 for bfloat16, float32 in PEAKS.values())


def test_slices_at_peak(config, monkeypatch):
    monkeypatch.setattr('liver_jax.training.peaks.describe_model', lambda *_: {'gflops': 2.0})
    model = dataclasses.replace(config.model, dtype='bfloat16')
    assert slices_at_peak(model, 32, 'NVIDIA A100-SXM4-40GB') == pytest.approx(312e12 / 6e9)
    assert slices_at_peak(model, 32, 'cpu') is None
