"""A run to something another tool opens, one file per format."""
