import matplotlib.image
import numpy as np
import pytest
from PIL import Image

from medssl.errors import InputError
from medssl.io.nifti import write_nifti
from medssl.io.volume import Volume
from medssl.labelled.cases import read_image, read_pair
from medssl.labelled.read import read_labelled
from medssl.library.catalog import write_catalog
from medssl.library.volumes import write_volume
from pipelines.covid_ct_table import covid_ct_table
from tests.labelled.examples import MR_T2, affine, phantom, table, write_picture, write_table
from tests.library.test_catalog import row as catalog_row


def pictures(folder, rows):
    """Write a table with a picture per row beside it."""
    for number in range(len(rows)):
        write_picture(folder / f"{number}.png", number)
    named = [{"image": f"{number}.png"} | row for number, row in enumerate(rows)]
    return write_table(folder / "cases.csv", named)


def test_other_columns_are_targets_and_known_ones_are_not(tmp_path):
    row = {"Patient": "DOE^JANE", "split": "Train", "sex": "F", "age_years": "41", "Grade": "2"}
    row["note"] = "a"
    rows = [row, {**row, "split": "", "age_years": "", "Grade": "?"}]
    labelled = read_labelled(pictures(tmp_path, [{**row, "modality": "ct"} for row in rows]))
    one, other = labelled.cases
    assert labelled.modality == "CT"
    assert labelled.labels == ()
    assert dict(one.targets) == {"Grade": "2", "note": "a"}
    assert dict(one.about) == {"sex": "F", "age_years": "41"}
    assert (one.part, other.part) == ("train", None)
    assert one.patient_key == other.patient_key == "patient-001"
    assert dict(other.targets) == {"Grade": "", "note": "a"}
    assert labelled.warnings == ("`Grade`: 1 of 2 values are missing or unknown",)


@pytest.mark.parametrize(
    ("separator", "encoding", "head"),
    [
        (",", "utf-8", ""),
        (",", "utf-8-sig", ""),
        (";", "utf-8-sig", ""),
        (";", "utf-8", "sep=;\r\n"),
        ("\t", "utf-16", ""),
    ],
)
def test_tables_are_read_as_programs_save_them(separator, encoding, head, tmp_path):
    write_picture(tmp_path / "a.png", 0)
    row = {"image": "a.png", "befund": "Größe 3, rundlich", "age_years": "41,5"}
    path = write_table(tmp_path / "t.csv", [row], separator, encoding, head)
    (case,) = read_labelled(path).cases
    assert dict(case.targets) == {"befund": "Größe 3, rundlich"}
    assert case.about["age_years"] == "41.5"


def test_what_is_no_table_is_explained(tmp_path):
    contents = {
        "latin.csv": ("image,befund\na.png,Größe".encode("cp1252"), 'save it as "CSV UTF-8"'),
        "ragged.csv": (b"image,a\n1.png,2\n1.png,2,3\n", "Expected 2 fields in line 3, saw 3"),
        "twice.csv": (b"image,a,a\n1.png,2,3\n", "several columns are called `a`"),
        "headless.csv": (
            b"1.png,DOE^JANE\n",
            r"none of its 2 columns is called one of `image`, `v",
        ),
        "void.csv": (b"", "cannot be read as a table"),
        "book.xlsx": (b"PK", "it is not a .csv or .tsv file"),
    }
    for name, (content, said) in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=said) as caught:
            read_labelled(tmp_path / name)
        assert "DOE" not in str(caught.value)


def test_all_that_is_wrong_with_rows_is_named_at_once(tmp_path):
    rows = [{"patient": str(number), "split": "train", "grade": "1"} for number in range(6)]
    rows[1] |= {"patient": "0", "split": "test"}
    rows[2] |= {"split": "holdout"}
    rows[3] |= {"grade": "NA"}
    rows[4] |= {"image": ""}
    rows[5] |= {"image": "absent.png"}
    with pytest.raises(InputError) as caught:
        read_labelled(pictures(tmp_path, rows))
    for line in (
        r"5 problem\(s\)",
        r"case-004: not one of its values is known",
        r"case-005: the row names no image",
        r"case-003: its part is none of train, val, test",
        r"cases of one patient are declared for several parts: case-001 in train, case-002 in test",
        r"case-006 \(absent.png\): the image is missing",
    ):
        caught.match(line)


def test_no_cell_is_repeated_in_an_error_and_no_file_name_in_a_warning(tmp_path):
    jane = "DOE^JANE"
    row = dict.fromkeys(("patient", "split", "modality", "sex", "age_years", "grade"), jane)
    wrong = pictures(tmp_path, [row])
    with pytest.raises(InputError, match="2 problem") as caught:
        read_labelled(wrong)
    assert jane not in str(caught.value)
    path = pictures(tmp_path, [{"patient": jane, "age_years": jane, "grade": jane}] * 2)
    (tmp_path / f"{jane}.png").write_bytes((tmp_path / "1.png").read_bytes())
    path.write_text(path.read_text() + f"{jane}.png,,,{jane}\n")
    labelled = read_labelled(path)
    assert len(labelled.warnings) == 2
    assert jane not in " ".join(labelled.warnings)


def test_a_patient_who_is_not_known_is_not_one_who_is_called_so(tmp_path):
    row = {"patient": "NA", "sex": "unknown", "split": "?", "grade": "1"}
    labelled = read_labelled(pictures(tmp_path, [row, row]))
    assert [case.patient_key for case in labelled.cases] == ["patient-001", "patient-002"]
    assert [(case.part, dict(case.about)) for case in labelled.cases] == [(None, {})] * 2


@pytest.mark.parametrize("impossible", ["x" * 300, "a\0b"])
def test_what_can_be_no_path_is_a_missing_file(impossible, tmp_path):
    for row in ({"image": impossible, "grade": "1"}, {"image": "0.png", "label": impossible}):
        with pytest.raises(InputError, match="is missing"):
            read_labelled(pictures(tmp_path, [row]))
    row = {"volume_key": "a", "library": impossible, "grade": "1"}
    with pytest.raises(InputError, match="case-001: "):
        read_labelled(write_table(tmp_path / "cases.csv", [row]))


def test_copies_of_an_image_may_not_lie_in_two_parts_and_else_keep_together(tmp_path):
    rows = [{"patient": f"p{number}", "split": "train", "grade": "1"} for number in range(3)]
    path = pictures(tmp_path, rows)
    with Image.open(tmp_path / "0.png") as picture:
        picture.save(tmp_path / "1.png", compress_level=1)
    assert (tmp_path / "0.png").read_bytes() != (tmp_path / "1.png").read_bytes()
    labelled = read_labelled(path)
    (warning,) = labelled.warnings
    assert warning.startswith("the same image under several names: case-001, case-002; ")
    assert warning.endswith("; they are kept together as one patient's")
    keys = [case.patient_key for case in labelled.cases]
    assert keys == ["patient-001", "patient-001", "patient-003"]
    write_table(path, [{"image": f"{n}.png"} | row for n, row in enumerate(rows)])
    rows[1]["split"] = "val"
    write_table(path, [{"image": f"{n}.png"} | row for n, row in enumerate(rows)])
    with pytest.raises(InputError, match=r"the same image in train and val: case-001 \(0.png\), c"):
        read_labelled(path)


def test_numbers_about_a_case_that_are_none_and_columns_without_a_name_are_left_out(tmp_path):
    rows = [{"": "0", "age_years": "forty", "grade": "1"}, {"": "1", "age_years": "7", "grade": ""}]
    rows[1]["grade"] = "0"
    labelled = read_labelled(pictures(tmp_path, rows))
    assert [dict(case.about) for case in labelled.cases] == [{}, {"age_years": "7"}]
    assert [list(case.targets) for case in labelled.cases] == [["grade"], ["grade"]]
    assert labelled.warnings == (
        "columns without a name are left out",
        "`age_years`: 1 value(s) are not numbers and count as unknown",
    )


def volumes(folder, labels):
    rows = []
    for number, label in enumerate(labels):
        write_nifti(phantom(number)[0], affine(), folder / f"{number}.nii.gz")
        write_nifti(label, affine(), folder / f"{number}_seg.nii.gz")
        rows.append({"image": f"{number}.nii.gz", "label": f"{number}_seg.nii.gz"})
    return write_table(folder / "t.tsv", rows, "\t")


def test_label_maps_of_a_table_number_their_classes(tmp_path):
    label = phantom(0)[1]
    labelled = read_labelled(volumes(tmp_path, [label, label * 2]))
    assert labelled.labels == ("background", "label 1", "label 2", "label 3", "label 4")
    assert labelled.warnings == ("no label map shows the class(es) 3: 1 of 4 stay empty",)
    with pytest.raises(InputError, match="hold 0 and 255 only: write the one class as 1"):
        read_labelled(volumes(tmp_path, [(label > 0).astype(np.uint8) * 255]))
    with pytest.raises(InputError, match=r"values that are no class numbers: 0\.5"):
        read_labelled(volumes(tmp_path, [label.astype(np.float32) / 2]))


def test_a_row_without_label_where_others_have_one_is_a_problem(tmp_path):
    path = volumes(tmp_path, [phantom(0)[1], phantom(1)[1]])
    path.write_text(path.read_text().replace("1_seg.nii.gz", ""))
    with pytest.raises(InputError, match="case-002: the image has no label"):
        read_labelled(path)
    path.write_text("image\n0.nii.gz\n")
    with pytest.raises(InputError, match="there is no column to learn from"):
        read_labelled(path)


def test_a_folder_of_a_dicom_series_is_an_image(tmp_path):
    path = write_table(tmp_path / "t.csv", [{"image": MR_T2, "grade": "2"}])
    labelled = read_labelled(path)
    assert labelled.modality == "MR"
    assert read_image(labelled.cases[0], "unknown").shape == (192, 192, 19)


def library(folder):
    """Write a library of three volumes, of which two are of one series."""
    rows = []
    for number, key in enumerate(("aa", "bb", "cc")):
        image = phantom(number)[0]
        write_volume(folder, key, Volume(array_IJK=image, affine_ras=affine(), modality="MR"))
        series, patient = ("s1", "s2", "s2")[number], ("p1", "p2", "p1")[number]
        rows.append(
            catalog_row(
                key, series_key=series, patient_key=patient, sex="F", manufacturer="ge", flags=[]
            )
        )
    rows[1]["slice_thickness_mm"] = None
    write_catalog(folder, rows, "key-id")


def test_volumes_of_a_library_bring_along_what_it_knows(tmp_path):
    library(tmp_path / "lib")
    label = phantom(1)[1]
    write_nifti(label, affine(), tmp_path / "seg.nii.gz")
    rows = [
        {"volume_key": key, "library": "lib", "grade": str(n)} for n, key in enumerate(("bb", "cc"))
    ]
    labelled = read_labelled(write_table(tmp_path / "t.csv", rows))
    assert labelled.modality == "MR"
    assert [dict(case.about) for case in labelled.cases] == [
        {"sex": "F", "scanner": "ge"},
        {"sex": "F", "scanner": "ge", "slice_thickness_mm": "0.5"},
    ]
    rows = [{"series_key": "s1", "library": "lib", "label": "seg.nii.gz"}]
    labelled = read_labelled(write_table(tmp_path / "t.csv", rows))
    image, found = read_pair(labelled.cases[0], "unknown")
    assert np.array_equal(image.array_IJK, phantom(0)[0][::-1, ::-1])  # as the library turned it
    assert np.array_equal(found, label[::-1, ::-1])


def test_what_is_wrong_with_a_library_is_a_problem_of_the_row(tmp_path):
    library(tmp_path / "lib")
    rows = [
        {"series_key": "s2", "library": "lib", "grade": "1"},
        {"series_key": "s9", "library": "lib", "grade": "1"},
        {"series_key": "s1", "library": "", "grade": "1"},
        {"series_key": "s1", "library": "absent", "grade": "1"},
    ]
    with pytest.raises(InputError) as caught:
        read_labelled(write_table(tmp_path / "t.csv", rows))
    for line in (
        "case-001: the library has 2 volumes of this `series_key`, not one",
        "case-002: the library has 0 volumes of this `series_key`, not one",
        "case-003: `series_key` needs a column `library`",
        "case-004: .*absent holds no catalog",
    ):
        caught.match(line)


def test_modalities_that_differ_are_noticed(tmp_path):
    path = pictures(tmp_path, [{"modality": "CT", "g": "1"}, {"modality": "MR", "g": "1"}])
    with pytest.raises(InputError, match="`modality` must be the same in every row"):
        read_labelled(path)
    path = pictures(tmp_path, [{"modality": "US", "g": "1"}])
    with pytest.raises(InputError, match="must be CT or MR, and is not in 1 of 1 rows"):
        read_labelled(path)
    path = table(tmp_path / "mixed")
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, f"{MR_T2},ill,A"]))
    labelled = read_labelled(path)
    assert labelled.modality == "unknown"
    assert labelled.warnings == ("the images are of several modalities: MR, unknown",)


def test_the_covid_ct_images_are_read_with_their_official_lists(shared, tmp_path):
    rows = covid_ct_table(shared / "data" / "covid-ct", tmp_path)
    rows.to_csv(tmp_path / "covid.csv", index=False)
    labelled = read_labelled(tmp_path / "covid.csv")
    assert len(labelled.cases) == 543
    assert len({case.patient_key for case in labelled.cases}) == 289
    assert labelled.warnings == ()
    pixels, case = next(
        (pixels, case)
        for case in labelled.cases
        if (pixels := matplotlib.image.imread(case.image)).shape[2:] == (4,)
    )
    image = read_image(case, labelled.modality)
    red, green, blue, _ = 255 * np.moveaxis(pixels, -1, 0)
    grey = 0.299 * red + 0.587 * green + 0.114 * blue
    assert np.abs(image.array_IJK[:, :, 0].T - grey).max() <= 1
    assert image.spacing_mm == (1, 1, 1)
