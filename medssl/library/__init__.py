"""The library: a catalog, its volumes, and the outcome of every file seen."""
