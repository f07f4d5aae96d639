"""Planted scans, and what is looked for in what was made of them."""

import csv

from tests import canaries

COUNT = 6
"""Slices of a planted series."""


def leaks(folder):
    """Return every planted text in the bytes and names below ``folder``."""
    found = []
    for path in sorted(folder.rglob("*")):
        content = path.read_bytes().lower() if path.is_file() else b""
        name = path.relative_to(folder).as_posix().lower()
        found += [
            (name, text)
            for text in canaries.everything()
            if text.lower().encode() in content or text.lower() in name
        ]
    return found


def rows(result):
    with (result.folder / "files.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def head(folder, part="HEAD"):
    return canaries.write(folder, edit=lambda ds, _: setattr(ds, "BodyPartExamined", part))
