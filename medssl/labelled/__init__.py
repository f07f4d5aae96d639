"""Labelled sets as people have them: read, checked whole, split by patient."""
