"""Exported encoders are folders for Hugging Face: its own library reads their heads."""

import json

import pytest
import yaml
from safetensors.torch import load_file

from medssl.export.formats._huggingface import front_matter
from tests.export.encoders import exported, write_run

FORMATS = {
    "encoder_folder": ("segresnet", {}, "medssl"),
    "nnunet": ("unet", {}, "nnunetv2"),
    "swin_ssl": ("swin_unetr", {"use_v2": False}, "monai"),
    "voco": ("swin_unetr", {}, "monai"),
}


def head_of(text):
    _, head, rest = text.split("---\n", 2)
    return yaml.safe_load(head), rest


@pytest.mark.parametrize("form", FORMATS)
def test_the_readme_begins_with_licence_library_and_tags(tmp_path, form):
    encoder, options, library = FORMATS[form]
    run = write_run(tmp_path / "run", encoder, **options)
    artefact = exported(run, tmp_path / "out", form, card={"licence": "CC-BY-SA-4.0"})
    head, rest = head_of((artefact / "README.md").read_text())
    assert head == {
        "license": "cc-by-sa-4.0",
        "library_name": library,
        "pipeline_tag": "image-feature-extraction",
        "tags": ["medical", "self-supervised", encoder, "mae"],
    }
    assert rest.startswith("\n# ")
    assert json.loads((artefact / "config.json").read_text())["encoder"]["name"] == encoder
    if form == "encoder_folder":
        assert load_file(artefact / "encoder.safetensors")


def test_hugging_faces_own_library_reads_the_card(tmp_path):
    library = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    run = write_run(tmp_path / "run", "segresnet")
    artefact = exported(run, tmp_path / "out", "encoder_folder", card={"licence": "Apache-2.0"})
    card = library.ModelCard.load(artefact / "README.md")
    assert card.data.license == "apache-2.0"
    assert card.data.library_name == "medssl"
    assert "self-supervised" in card.data.tags
    assert card.text.lstrip().startswith("# Encoder")


@pytest.mark.parametrize(
    ("stated", "head"),
    [
        ("MIT", {"license": "mit"}),
        ("CC BY-NC 4.0", {"license": "cc-by-nc-4.0"}),
        ("not stated", {"license": "unknown"}),
        (
            "Our: own\nterms",
            {"license": "other", "license_name": "our-own-terms", "license_link": "LICENSE"},
        ),
        ("???", {"license": "other", "license_name": "other", "license_link": "LICENSE"}),
    ],
)
def test_licences_have_hugging_faces_names(stated, head):
    found, _ = head_of(front_matter(stated, library="medssl", about={}))
    assert {key: value for key, value in found.items() if key.startswith("license")} == head


def test_what_a_run_says_cannot_add_entries():
    about = {"encoder": {"name": "unet\nlicense: mit\n---"}, "method": None}
    found, _ = head_of(
        front_matter("not stated", library="medssl", about=about).replace("\n---\n\n", "\n---\n")
    )
    assert found["license"] == "unknown"
