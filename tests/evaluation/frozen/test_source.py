import numpy as np
import pytest

from medssl.data.normalize import IntensityConfig
from medssl.data.store import CropStore
from medssl.errors import InputError
from medssl.evaluation.frozen.source import Grid, open_source
from tests.evaluation.frozen.sets import write_balls
from tests.training.stores import write_store

GRID = Grid((3.0, 3.0, 3.0), IntensityConfig())


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("store") / "store")


def table(path, text):
    path.write_text(text)
    return path


def test_label_maps_say_which_classes_are_there(tmp_path):
    source = open_source(write_balls(tmp_path / "balls"), None)
    assert [values["kernel"] for values in source.values] == list("1100110011001100110011")
    assert all(values["shell"] == "1" for values in source.values)


def test_a_labelled_volume_is_resampled_and_scaled(tmp_path):
    source = open_source(write_balls(tmp_path / "balls"), None)
    found = source.scaled(source.cases[0], Grid((2.0, 2.0, 2.0), IntensityConfig()))
    assert np.abs(np.subtract(found.shape, (10, 11, 9))).max() <= 1
    assert found.dtype == np.float32
    assert found.min() >= 0
    assert found.max() <= 1


def test_a_stored_volume_is_scaled_as_in_training(store, tmp_path):
    rows = table(tmp_path / "t.csv", "volume_key,label\nv03,x\nv01,\n")
    source = open_source(store, rows)
    assert [case.case_key for case in source.cases] == ["v03", "v01"]
    assert [case.patient_key for case in source.cases] == ["p03", "p01"]
    assert list(source.values) == [{"label": "x"}, {"label": ""}]
    found, opened = source.scaled(source.cases[0], GRID), CropStore(store)
    stored = opened.read("v03", (0, 0, 0), opened.entry("v03").shape)
    np.testing.assert_array_equal(found, IntensityConfig().normalize(stored, opened.entry("v03")))


def test_a_store_of_another_spacing_is_refused(store, tmp_path):
    source = open_source(store, table(tmp_path / "t.csv", "volume_key,label\nv03,x\n"))
    with pytest.raises(InputError, match="the store has a spacing of"):
        source.scaled(source.cases[0], Grid((1.0, 1.0, 1.0), IntensityConfig()))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("volume_key,label\nnobody,x\n", "1 of 1 volumes are not in the store"),
        ("key,label\nv01,x\n", r"not a table of labels \(KeyError\)"),
        ("volume_key,label\nv01,x\nv01,y\n", "1 volume.* more than one row"),
    ],
)
def test_a_table_that_does_not_fit_is_explained(text, said, store, tmp_path):
    with pytest.raises(InputError, match=said):
        open_source(store, table(tmp_path / "t.csv", text))


def test_a_store_alone_has_nothing_to_ask(store):
    with pytest.raises(InputError, match="knows nothing to ask an encoder about"):
        open_source(store, None)
