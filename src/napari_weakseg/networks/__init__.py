"""Networks that two rooms share (torch, MONAI)."""
