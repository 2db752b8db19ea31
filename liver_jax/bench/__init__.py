"""Measuring: what this machine gets out of each stage, beside what users would pick instead."""
