"""What can be wrong with a scan, one file each; chosen by the name of the file."""
