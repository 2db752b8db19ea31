"""What users would pick instead: PyTorch and MONAI, of the extra `bench`; the benchmark alone imports them."""
