import pandas as pd
import pytest

from medssl.errors import InputError
from medssl.evaluation.frozen.copies import read_copies


@pytest.mark.parametrize("key", ["volume_key", "item", "case_key"])
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_groups_are_read_as_curation_and_people_write_them(tmp_path, key, suffix):
    frame = pd.DataFrame({key: ["a", "b", "z"], "group_key": ["g", "g", None], "more": [1, 2, 3]})
    path = tmp_path / f"t.{suffix}"
    frame.to_csv(path, index=False) if suffix == "csv" else frame.to_parquet(path)
    assert read_copies(path, ["b", "c", "a", "z"]) == ("g", "", "g", "")


def test_without_a_table_nothing_is_a_copy():
    assert read_copies(None, ["a", "b"]) == ("", "")


def test_tables_that_say_nothing_are_explained(tmp_path):
    path = tmp_path / "t.csv"
    with pytest.raises(InputError, match="cannot be read"):
        read_copies(path, ["a"])
    path.write_text("volume_key,group\na,1\n")
    with pytest.raises(InputError, match="there is no column 'group_key'"):
        read_copies(path, ["a"])
    path.write_text("volume_key,group_key\nq,1\n")
    with pytest.raises(InputError, match="none of its 1 keys"):
        read_copies(path, ["a"])
