"""The specification's table of edge cases, as files whose every voxel is known."""
