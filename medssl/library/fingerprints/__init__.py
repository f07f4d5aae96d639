"""What identifies a volume, one file per description."""
