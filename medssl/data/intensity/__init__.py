"""Intensities to network input, one file per modality."""
