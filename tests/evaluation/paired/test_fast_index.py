import json

import numpy as np
import pytest

from medssl.errors import InputError
from medssl.evaluation.paired import fast_index
from medssl.evaluation.paired.index import read_index, write_index
from medssl.evaluation.paired.studies import Embedded
from tests.evaluation.paired.bright_studies import pair

pytest.importorskip("faiss", reason="faiss is an extra of its own")
ROWS, WIDTH, K = 1500, 16, 10


def embedded(rows=ROWS):
    """Studies in clusters, as embeddings are; every fifth has no report."""
    rng = np.random.default_rng(0)
    middles = rng.standard_normal((30, WIDTH))
    drawn = middles[rng.integers(0, 30, (2, rows))] + 0.4 * rng.standard_normal((2, rows, WIDTH))
    image_ND, text_ND = drawn / np.linalg.norm(drawn, axis=2, keepdims=True)
    text_ND[::5] = np.nan
    pairs = tuple(pair(n, "test") for n in range(rows))
    return Embedded(pairs, image_ND, text_ND, ())


@pytest.fixture(scope="module")
def studies():
    return embedded()


def written(subject, studies, folder, kind):
    folder.mkdir()
    write_index(folder, subject, studies, kind)
    return read_index(folder)


@pytest.mark.parametrize(("kind", "least_found"), [("flat", 1.0), ("hnsw", 0.99), ("ivf", 0.8)])
def test_what_faiss_finds_is_what_a_full_comparison_finds(
    subject, studies, tmp_path, kind, least_found
):
    exact = written(subject, studies, tmp_path / "exact", "exact")
    fast = written(subject, studies, tmp_path / "fast", kind)
    assert not exact.fast
    assert set(fast.fast) == {"images", "reports"}
    common = 0
    for n in range(0, 400, 4):
        query, hidden = studies.image_ND[n], exact.study_keys[n]
        for among in ("images", "reports"):
            full = exact.nearest(query, among, K, hidden)
            hits = fast.nearest(query, among, K, hidden)
            assert hidden not in {hit.study_key for hit in hits}
            assert len(hits) <= K
            known = {hit.study_key: hit.cosine for hit in exact.nearest(query, among, ROWS, hidden)}
            for hit in hits:  # what is found, is found with its true cosine
                assert hit.cosine == pytest.approx(known[hit.study_key], abs=1e-5)
            assert [h.cosine for h in hits] == sorted((h.cosine for h in hits), reverse=True)
            common += len({h.study_key for h in full} & {h.study_key for h in hits})
    assert common / (100 * 2 * K) >= least_found


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf"])
def test_few_studies_without_a_report_can_be_searched(subject, tmp_path, kind):
    few = embedded(3)
    few.text_ND[:] = np.nan
    fast = written(subject, few, tmp_path / "fast", kind)
    assert len(fast.nearest(few.image_ND[0], "images", 10)) == 3
    assert fast.nearest(few.image_ND[0], "reports", 10) == []


def test_a_file_that_was_changed_is_refused(subject, tmp_path):
    written(subject, embedded(50), tmp_path / "fast", "flat")
    path = fast_index.fast_file(tmp_path / "fast", "images")
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(InputError, match="is not what `medssl embed` wrote"):
        read_index(tmp_path / "fast")


def test_without_faiss_it_is_said_what_to_install(subject, tmp_path, monkeypatch):
    written(subject, embedded(5), tmp_path / "fast", "flat")

    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(fast_index, "import_module", missing)
    with pytest.raises(InputError, match="faiss is not installed") as refused:
        read_index(tmp_path / "fast")
    assert "medssl[index]" in refused.value.hint
    with pytest.raises(InputError, match="faiss is not installed"):
        write_index(tmp_path / "other", subject, embedded(5), "hnsw")


def test_an_index_from_before_is_read(subject, tmp_path):
    found = written(subject, embedded(5), tmp_path / "old", "exact")
    path = tmp_path / "old" / "index.json"
    about = json.loads(path.read_text())
    path.write_text(json.dumps({k: about[k] for k in ("format_version", "subject_digest")}))
    assert read_index(tmp_path / "old").study_keys == found.study_keys
