"""How labelled sets lie on disks: one layout per file, found by the name of the file."""
