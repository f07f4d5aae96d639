"""Sources to library."""
