"""What a person judged comes back in, is recorded, and outranks rules and thresholds."""

import csv

import pandas as pd
import pytest

from medssl.curation.curate import curate, decide
from medssl.curation.edges import Edge
from medssl.curation.review import borderline
from medssl.curation.selection import selection_folder
from medssl.errors import FolderError, InputError
from tests.curation.libraries import Scan, blobs, curate_config, resampled, write_library


@pytest.fixture
def library(tmp_path):
    scans = {
        "coarse": Scan(resampled(blobs(1), 1.3), "one"),
        "fine": Scan(blobs(1), "two"),
        "other": Scan(blobs(2), "three"),
        "thin": Scan(blobs(3, shape=(30, 28, 6)), "four"),
        "twin": Scan(blobs(2), "five"),
    }
    return write_library(tmp_path / "lib", scans)


def review(tmp_path, *rows, columns=("volume_a", "volume_b", "judgement", "note")):
    path = tmp_path / "judged.csv"
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(columns)
        table.writerows(rows)
    return path


def judged(library, tmp_path, *rows):
    return decide(curate_config(library, review=review(tmp_path, *rows)))


def test_a_copy_that_a_person_calls_different_is_kept_and_stays_in_the_split(library, tmp_path):
    assert decide(curate_config(library)).representative["coarse"] == "fine"
    decisions = judged(library, tmp_path, ("fine", "coarse", "different", ""))
    assert "coarse" in decisions.kept
    assert decisions.judged["coarse"] == "different fine"
    assert decisions.split["coarse"] == decisions.split["fine"]


def test_a_pair_that_no_search_found_becomes_a_copy(library, tmp_path):
    decisions = judged(library, tmp_path, ("other", "fine", "Copy ", "same person, same day"))
    assert (
        decisions.representative["other"] == "fine" or decisions.representative["fine"] == "other"
    )
    (edge,) = (edge for edge in decisions.edges if edge.volumes == ("fine", "other"))
    assert edge.drops


def test_equal_voxels_are_no_matter_of_opinion(library, tmp_path):
    decisions = judged(library, tmp_path, ("other", "twin", "different", ""))
    assert len({"other", "twin"} & set(decisions.kept)) == 1


def test_single_volumes_are_kept_or_excluded_whatever_the_rules_say(library, tmp_path):
    decisions = judged(
        library, tmp_path, ("thin", "", "keep", ""), ("coarse", "", "keep", ""),
        ("other", "", "exclude", "motion"),
    )  # fmt: skip
    assert {"thin", "coarse", "fine"} <= set(decisions.kept)
    assert decisions.excluded["other"].reason_code == "judged_exclude"
    assert "twin" in decisions.kept  # nothing stands for it any more


def test_the_ledger_tells_what_was_judged(library, tmp_path):
    path = review(tmp_path, ("fine", "coarse", "different", ""), ("thin", "", "keep", ""))
    folder = curate(curate_config(library, review=path)).folder
    ledger = pd.read_parquet(folder / "ledger.parquet").set_index("item")
    assert ledger["judgement"].to_dict() == {
        "coarse": "different fine", "fine": "different coarse", "other": "", "thin": "keep",
        "twin": "",
    }  # fmt: skip
    review(tmp_path, ("thin", "", "keep", ""))
    with pytest.raises(FolderError, match="input review: was"):
        curate(curate_config(library, review=path))


def test_what_was_judged_holds_for_what_is_built_on_it(library, tmp_path):
    path = review(tmp_path, ("fine", "coarse", "different", ""), ("other", "", "exclude", ""))
    first = decide(curate_config(library, review=path))
    curate(curate_config(library, "v1", review=path, release=True))
    second = decide(curate_config(library, "v2", based_on="v1"))
    assert second.kept == first.kept
    assert second.judged == first.judged
    assert second.excluded["other"].reason_code == "judged_exclude"


def test_nothing_outranks_a_withdrawal(library, tmp_path):
    config = curate_config(
        library, review=review(tmp_path, ("fine", "", "keep", "")), withdraw=["fine"]
    )
    curate(config)
    kept = pd.read_parquet(selection_folder(library, "all") / "kept.parquet")
    assert "fine" not in set(kept["volume_key"])


def test_the_table_of_borderline_pairs_comes_back_as_it_is(library, tmp_path):
    folder = curate(curate_config(library)).folder
    text = (folder / "borderline.csv").read_text()
    assert text.splitlines()[0] == "volume_a,volume_b,kind,score,threshold,judgement,note"
    rows = list(csv.DictReader(text.splitlines()))
    assert ("coarse", "fine") in {(row["volume_a"], row["volume_b"]) for row in rows}
    assert not any({row["volume_a"], row["volume_b"]} == {"other", "twin"} for row in rows)
    decisions = decide(curate_config(library, review=folder / "borderline.csv"))
    assert not decisions.judged  # nobody filled anything in


def test_mistakes_are_told_all_at_once(library, tmp_path):
    path = review(
        tmp_path,
        ("fine", "coarse", "perhaps", ""),
        ("fine", "nobody", "copy", ""),
        ("fine", "fine", "copy", ""),
        ("fine", "other", "copy", ""),
        ("other", "fine", "different", ""),
        ("fine", "", "copy", ""),
    )
    with pytest.raises(InputError) as caught:
        curate(curate_config(library, review=path))
    told = str(caught.value)
    for line in (
        "line 2: 'perhaps' is no judgement of 2 volume(s): copy or different",
        "line 3: the library has no volume nobody",
        "line 4: a volume beside itself",
        "line 6: judged twice, and differently",
        "line 7: 'copy' is no judgement of 1 volume(s): keep or exclude",
    ):
        assert line in told
    assert not selection_folder(library, "all").exists()


def test_a_file_that_is_no_review_says_so(library, tmp_path):
    for content in (b"\xff\xfe\x00", b"a,b\n1,2\n"):
        (tmp_path / "odd.csv").write_bytes(content)
        with pytest.raises(InputError, match=r"review .*odd\.csv"):
            curate(curate_config(library, review=tmp_path / "odd.csv"))
    with pytest.raises(InputError, match="cannot be read"):
        curate(curate_config(library, review=tmp_path / "missing.csv"))


def test_borderline_means_close_to_the_threshold():
    edges = [
        Edge(volume_a="a", volume_b=f"b{n}", kind="resampled", drops=True, score=s, threshold=0.97)
        for n, s in enumerate((0.99, 0.9699, 0.8, float("nan"), 0.971))
    ]
    assert [edge.volume_b for edge in borderline(edges, (), 3)] == ["b1", "b4", "b0"]
    assert [edge.volume_b for edge in borderline(edges, ["b1"], 1)] == ["b4"]
