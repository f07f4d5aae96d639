"""Which slices of a volume to draw from, one strategy per file."""
