import numpy as np
import pytest

from medssl.errors import ConfigError, InputError
from medssl.evaluation.paired.embed import EmbedConfig, embed
from medssl.evaluation.paired.search import Query, search, write_search_page
from medssl.io.nifti import write_nifti
from tests.evaluation.paired.bright_studies import SAYS, SPACING_MM, has_square, volume, write_model

AFFINE = np.diag([*SPACING_MM, 1.0])


def config(bright, out, **changes):
    given = {"pairs": bright / "pairs", "store": bright / "store", **changes}
    return EmbedConfig(model=bright / "model", out=out, tracking={"enabled": False}, **given)


@pytest.fixture(scope="module")
def index(bright, tmp_path_factory):
    folder = tmp_path_factory.mktemp("index")
    embed(config(bright, folder))
    return folder


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scans")
    for number in (200, 201):
        write_nifti(volume(number, planes=8), AFFINE, folder / f"{number}.nii.gz")
    (folder / "damaged.nii").write_bytes(b"nothing")
    return folder


def squares(found):
    return [has_square(int(hit.study_key[1:])) for hit in found.hits]


def test_words_find_images_that_show_it(bright, index):
    for number, words in enumerate(SAYS):
        found = search(bright / "model", index, Query(words=words), k=5)
        assert squares(found) == [number] * 5
        cosines = [hit.cosine for hit in found.hits]
        assert cosines == sorted(cosines, reverse=True)


def test_a_study_finds_others_like_it_and_reports(bright, index):
    for among in ("images", "reports"):
        found = search(bright / "model", index, Query(study_key="s003"), among=among, k=4)
        assert squares(found) == [1] * 4
        assert "s003" not in [hit.study_key for hit in found.hits]


def test_a_scan_in_a_file_finds_studies_like_it(bright, index, scans):
    for number in (200, 201):
        query = Query(scan=scans / f"{number}.nii.gz")
        found = search(bright / "model", index, query, k=3)
        assert squares(found) == [number % 2] * 3


def test_the_page_shows_images_and_reports(bright, index, tmp_path):
    query = Query(words="<b>effusion</b>")
    found = search(bright / "model", index, query, k=2)
    write_search_page(tmp_path / "page.html", index, query, found)
    page = (tmp_path / "page.html").read_text()
    assert page.count("data:image/png") == 2
    assert "&lt;b&gt;effusion" in page
    assert "effusion is seen" in page or "effusion on the left" in page


def test_scans_are_embedded_and_searched_without_a_library(bright, scans, tmp_path):
    given = {"pairs": None, "store": None, "inputs": (scans,)}
    result = embed(config(bright, tmp_path / "index", **given))
    assert (result.summary["studies"], result.summary["left_out"]) == (2, 1)
    assert "scan-0003" in (tmp_path / "index/left_out.csv").read_text()
    assert str(scans) not in (tmp_path / "index/config.yaml").read_text()
    query = Query(words=SAYS[1])
    found = search(bright / "model", tmp_path / "index", query)
    assert [hit.study_key for hit in found.hits] == ["scan-0002", "scan-0001"]
    write_search_page(tmp_path / "page.html", tmp_path / "index", query, found)
    assert "There is no report" in (tmp_path / "page.html").read_text()
    with pytest.raises(InputError, match="no reports"):
        search(bright / "model", tmp_path / "index", query, among="reports")


def test_an_index_of_another_model_is_refused(index, tmp_path):
    other = write_model(tmp_path, steps=1)
    with pytest.raises(InputError, match="another model"):
        search(other, index, Query(words="effusion"))


def test_a_search_needs_one_thing_to_look_for(bright, index):
    with pytest.raises(ConfigError, match="one of three"):
        search(bright / "model", index, Query())


def test_scans_that_cannot_be_read_are_explained(bright, tmp_path):
    given = {"pairs": None, "store": None, "inputs": (tmp_path / "nothing.nii",)}
    with pytest.raises(InputError, match="none of 1 scans"):
        embed(config(bright, tmp_path / "index", **given))


def test_embedding_asks_for_one_kind_of_data(bright, tmp_path):
    for changes in ({"store": None}, {"inputs": (tmp_path,)}, {"pairs": None, "store": None}):
        with pytest.raises(ValueError, match="give"):
            config(bright, tmp_path, **changes)
