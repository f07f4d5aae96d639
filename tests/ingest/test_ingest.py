"""The stage as a whole: every file accounted for, and nothing done twice."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from medssl.errors import FolderError, InputError
from medssl.ingest import batches as stage
from medssl.ingest.ingest import IngestConfig, ingest
from medssl.library.catalog import catalog_digest, read_catalog
from medssl.library.outcomes import read_outcomes, read_paths
from medssl.library.volumes import read_volume, volume_path
from tests import bad_files, phantoms

AFFINE = phantoms.affine_ras((12, -7, 4))
ARRAY = phantoms.phantom(AFFINE)


@pytest.fixture
def source(tmp_path):
    """Two series, two NIfTI files, and a text."""
    folder = tmp_path / "in"
    phantoms.write_dicom(folder / "one", ARRAY, AFFINE)
    phantoms.write_dicom(folder / "two", ARRAY, AFFINE, modality="MR", seed=1)
    phantoms.write_nifti(folder / "sub-01" / "ct.nii.gz", ARRAY, AFFINE)
    phantoms.write_nifti(folder / "sub-01" / "mr.nii", ARRAY, AFFINE)
    (folder / "notes.txt").write_text("a text")
    return folder


def conversions(monkeypatch):
    """Count the items that are really converted."""
    done = []
    convert = stage.convert

    def counted(conversion, item):
        done.append(item.key)
        return convert(conversion, item)

    monkeypatch.setattr(stage, "convert", counted)
    return done


def test_volumes_and_rows_are_what_the_sources_hold(source, ingested, configure):
    result, files, catalog = ingested(source, modalities={"*ct*": "CT", "*": "MR"})
    assert result.summary["volumes"] == 4
    assert result.summary["converted"] == 12
    assert result.summary["patients"] == 2
    assert catalog["modality"].value_counts().to_dict() == {"CT": 2, "MR": 2}
    assert catalog["intensity"].value_counts().to_dict() == {"hu": 2, "arbitrary": 2}
    for row in catalog.to_dict(orient="records"):
        volume = read_volume(result.folder, row["volume_key"])
        assert phantoms.value_error(volume.array_IJK, volume.affine_ras) <= 1
        assert (row["shape_i"], row["shape_j"], row["shape_k"]) == volume.shape
        np.testing.assert_array_equal(row["affine_ras"], volume.affine_ras.ravel())
        np.testing.assert_allclose(
            [row[f"spacing_{axis}_mm"] for axis in "ijk"], volume.spacing_mm, rtol=1e-12
        )
        values = np.sort(volume.array_IJK.ravel().astype(float))
        assert (row["min"], row["max"]) == (values[0], values[-1])
        assert row["p01"] == values[int(np.ceil(0.01 * values.size)) - 1]
        assert row["p99"] == values[int(np.ceil(0.99 * values.size)) - 1]
        np.testing.assert_allclose(row["mean"], sum(values) / len(values))
        np.testing.assert_allclose(row["std"], np.sqrt(np.mean((values - row["mean"]) ** 2)))
        assert row["dtype"] == str(volume.array_IJK.dtype)
    counts = files.groupby("volume_key").size().to_dict()
    for row in catalog.to_dict(orient="records"):
        assert counts[row["volume_key"]] == row["source_files"]


def test_dicom_and_nifti_of_one_scan_share_their_voxel_digest(source, ingested):
    _, _, catalog = ingested(source, modalities={"*ct*": "CT"})
    ct = catalog[catalog["modality"] == "CT"]
    assert sorted(ct["source_format"]) == ["dicom", "nifti"]
    assert ct["voxel_digest"].nunique() == 1
    assert ct["dct_full"].nunique() == 1


def test_an_exact_copy_shares_its_file_digest_only(tmp_path, ingested):
    original = phantoms.write_nifti(tmp_path / "in" / "a.nii.gz", ARRAY, AFFINE)
    shutil.copy(original, tmp_path / "in" / "b.nii.gz")
    _, _, catalog = ingested(tmp_path / "in")
    assert catalog["file_digest"].nunique() == 1
    assert catalog["volume_key"].nunique() == catalog["patient_key"].nunique() == 2


def test_the_patient_is_found_in_the_file_name(tmp_path, ingested):
    for name in ("ms_p01_T1.nii", "ms_p01_T2.nii", "ms_p02_T1.nii", "other.nii"):
        phantoms.write_nifti(tmp_path / "in" / name, ARRAY, AFFINE)
    _, _, catalog = ingested(tmp_path / "in", patient_pattern="(?P<patient>[a-z]+_p[0-9]+)_")
    assert sorted(catalog.groupby("patient_key").size()) == [1, 1, 2]
    unknown = catalog[[("patient_unknown" in flags) for flags in catalog["flags"]]]
    assert len(unknown) == 1


def test_names_order_and_links_change_nothing_of_dicom(source, tmp_path, configure):
    digests = set()
    shutil.rmtree(source / "sub-01")
    for number, name in enumerate(["plain", "renamed", "linked"]):
        folder = tmp_path / name
        if name == "linked":
            folder.symlink_to(source)
        else:
            shutil.copytree(source, folder)
        if name == "renamed":
            for index, path in enumerate(sorted(folder.glob("*/*"), reverse=True)):
                path.rename(folder / f"{index}.bin")
        config = configure(folder, library=f"library{number}")
        ingest(config)
        digests.add(catalog_digest(config.library))
    assert len(digests) == 1


def test_the_same_again_does_nothing(source, configure, monkeypatch):
    done = conversions(monkeypatch)
    config = configure(source)
    assert not ingest(config).skipped
    assert len(done) == 4
    assert ingest(config).skipped
    assert len(done) == 4


def test_only_what_is_new_or_changed_is_converted_again(source, configure, monkeypatch):
    config = configure(source)
    ingest(config)
    before = read_catalog(config.library).set_index("file_digest")["volume_key"]
    done = conversions(monkeypatch)
    phantoms.write_nifti(source / "sub-02" / "new.nii", ARRAY + 1, AFFINE)
    phantoms.write_nifti(source / "sub-01" / "mr.nii", ARRAY + 2, AFFINE)
    os.utime(source / "sub-01" / "mr.nii", ns=(1, 1))
    result = ingest(config)
    assert len(done) == 2
    assert result.summary["volumes"] == 5
    after = read_catalog(config.library).set_index("file_digest")["volume_key"]
    assert len(set(before) & set(after)) == 4
    assert len(set(before.index) & set(after.index)) == 3


def test_a_volume_that_was_lost_is_made_again(source, configure, monkeypatch):
    config = configure(source)
    ingest(config)
    (lost, *_) = read_catalog(config.library)["volume_key"]
    volume_path(config.library, lost).unlink()
    (source / "more.txt").write_text("so that there is something to do")
    done = conversions(monkeypatch)
    ingest(config)
    assert len(done) == 1
    assert volume_path(config.library, lost).is_file()


def test_a_setting_that_changes_the_result_converts_again(source, configure, monkeypatch):
    ingest(configure(source))
    done = conversions(monkeypatch)
    result = ingest(configure(source, min_slices=6))
    assert len(done) == 4
    assert result.summary["volumes"] == 0
    assert list((result.folder / "volumes").iterdir()) == []


def test_a_second_source_is_added_to_the_first(source, tmp_path, configure):
    other = tmp_path / "other"
    phantoms.write_nifti(other / "a.nii", ARRAY, AFFINE)
    ingest(configure(source))
    result = ingest(configure(other))
    assert result.summary["volumes"] == 5
    assert result.summary["files"] == len(read_outcomes(result.folder)) == 14
    assert len(read_paths(result.folder)) == 14


def test_a_series_delivered_in_two_parts_becomes_whole(tmp_path, configure):
    slices = phantoms.dicom_slices(phantoms.phantom(AFFINE, (7, 6, 12)), AFFINE)
    phantoms.save(slices[:5], tmp_path / "monday")
    phantoms.save(slices[5:], tmp_path / "tuesday", seed=1)
    ingest(configure(tmp_path / "monday"))
    result = ingest(configure(tmp_path / "tuesday"))
    catalog = read_catalog(result.folder)
    assert catalog["shape_k"].tolist() == [12]
    assert result.summary["converted"] == 12
    assert len(list((result.folder / "volumes").iterdir())) == 1


def test_two_folders_of_one_name_are_told_apart_or_refused(tmp_path, configure):
    for where in ("a", "b"):
        phantoms.write_nifti(tmp_path / where / "data" / "v.nii", ARRAY, AFFINE)
    both = [tmp_path / where / "data" for where in ("a", "b")]
    assert ingest(configure(*both, library="both")).summary["volumes"] == 2
    ingest(configure(both[0], library="one"))
    with pytest.raises(FolderError, match="same folder name"):
        ingest(configure(both[1], library="one"))


def test_another_key_is_refused(source, tmp_path, configure):
    ingest(configure(source))
    with pytest.raises(FolderError, match="another key"):
        ingest(configure(source, key_file=tmp_path / "other"))
    ingest(configure(source, key_file=tmp_path / "other"), overwrite=True)


def test_the_library_may_lie_in_a_source(source, configure):
    config = configure(source).model_copy(update={"library": source / "library"})
    ingest(config)
    assert ingest(config).skipped
    assert ingest(config).summary["files"] == 13


@pytest.mark.parametrize("kind", ["missing", "empty"])
def test_a_source_without_files_is_a_mistake(kind, tmp_path, configure):
    source = tmp_path / "source"
    if kind == "empty":
        source.mkdir()
    with pytest.raises(InputError, match="does not exist" if kind == "missing" else "no files"):
        ingest(configure(source))


def test_a_single_file_is_a_source_too(tmp_path, ingested):
    path = phantoms.write_nifti(tmp_path / "in" / "v.nii", ARRAY, AFFINE)
    result, _, _ = ingested(path)
    assert result.summary["volumes"] == 1


def test_workers_change_nothing(source, configure):
    digests = set()
    for workers in (1, 2):
        config = configure(source, library=f"library{workers}", workers=workers)
        ingest(config)
        digests.add(catalog_digest(config.library))
    assert len(digests) == 1


def test_all_trouble_at_once_is_accounted_for(tmp_path, ingested):
    for kind, code, build in bad_files.CASES:
        build(tmp_path / "in" / f"{kind}-{code}")
    strict = {name: value for one in bad_files.POLICIES.values() for name, value in one.items()}
    result, files, _ = ingested(tmp_path / "in", exclude=("*.bin",), irregular=strict)
    assert len(files) == sum(len(names) for *_, names in os.walk(tmp_path / "in"))
    assert set(bad_files.DICOM) - {"too_few_slices", "no_slice_thickness"} <= set(
        files["reason_code"]
    )
    assert not list(Path(result.folder).rglob(".partial-*"))


def test_a_disk_that_fails_is_a_reason_and_not_the_end(source, ingested, monkeypatch):
    def fail(path):
        raise OSError(5, "Input/output error", str(path))

    monkeypatch.setattr("medssl.ingest.convert.digest_file", fail)
    result, files, _ = ingested(source)
    assert result.summary["reason.unreadable_file"] == 12
    assert not any("Input/output" in reason for reason in files["reason"])


def test_the_key_must_not_lie_in_the_library(tmp_path):
    with pytest.raises(ValidationError, match="must not lie in the library"):
        IngestConfig(sources=[tmp_path], library=tmp_path, key_file=tmp_path / "private" / "key")


@pytest.mark.parametrize(
    ("pattern", "message"), [("(", "not a regular expression"), ("sub-(.*)", "group named patient")]
)
def test_a_pattern_that_cannot_work_is_a_mistake(pattern, message, tmp_path):
    with pytest.raises(ValidationError, match=message):
        IngestConfig(
            sources=[tmp_path],
            library=tmp_path / "library",
            key_file=tmp_path / "key",
            patient_pattern=pattern,
        )
