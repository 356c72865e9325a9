"""Disk to words and back: NIfTI, points files, records, atomic writes."""
