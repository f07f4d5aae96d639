"""Exclusion rules, one file each."""
