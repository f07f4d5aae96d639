import pytest

from medssl.curation.curate import curate
from medssl.curation.selection import read_selection, selection_digest
from medssl.errors import InputError
from medssl.runs.folder import read_json, write_json
from tests.curation.libraries import Scan, blobs, curate_config, write_library

ROWS = [
    {"volume_key": f"v{n}", "patient_key": "p", "voxel_digest": "d", "split": "train"}
    for n in range(3)
]


def test_a_missing_selection_names_those_that_are_there(tmp_path):
    library = write_library(tmp_path / "lib", {"v0": Scan(blobs(0))})
    with pytest.raises(InputError, match="run `medssl curate` first"):
        read_selection(library, "all")
    curate(curate_config(library, "some"))
    with pytest.raises(InputError, match="no selection 'all'\n  hint: it has: some"):
        read_selection(library, "all")


def test_an_unfinished_selection_is_refused(tmp_path):
    library = write_library(tmp_path / "lib", {"v0": Scan(blobs(0))})
    manifest = curate(curate_config(library)).folder / "manifest.json"
    write_json(manifest, read_json(manifest) | {"status": "running"})
    with pytest.raises(InputError, match="'all' is not finished"):
        read_selection(library, "all")


def test_the_digest_knows_no_order():
    assert selection_digest(ROWS) == selection_digest(ROWS[::-1])


@pytest.mark.parametrize("column", ["volume_key", "patient_key", "voxel_digest", "split"])
def test_the_digest_changes_with_what_training_depends_on(column):
    changed = [ROWS[0] | {column: "other"}, *ROWS[1:]]
    assert selection_digest(changed) != selection_digest(ROWS)
