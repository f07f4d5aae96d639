"""Which volumes make a varied set of a given size, one way per file."""
