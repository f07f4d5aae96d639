"""Text encoders: one file each, chosen by its name."""
