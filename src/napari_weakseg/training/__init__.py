"""Devices, weights and loops that two rooms share (torch, MONAI)."""
