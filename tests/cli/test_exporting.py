import pytest
from typer.testing import CliRunner

from medssl.cli.main import app
from tests.export.encoders import write_run

QUIET = "tracking.enabled=false"


def call(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run"), "segresnet")


def test_several_formats_are_a_table(tmp_path, run):
    given = ("export", run, "--out", tmp_path / "out", QUIET)
    done = call(*given, "--format", "encoder_folder,swin_ssl")
    assert done.exit_code == 0, done.output
    head, first, second = done.output.splitlines()
    assert head.split() == ["format", "result", "files", "size", "verified", "by"]
    assert first.split()[:3] == ["encoder_folder", "exported", "6"]
    assert first.endswith("medssl, load_encoder")
    assert second.split()[:6] == ["swin_ssl", "does", "not", "fit", "-", "-"]
    assert head.index("files") == first.index("6 ")
    again = call(*given, "--format", "encoder_folder,swin_ssl")
    assert "already done" in again.output
    none = call(*given[:3], tmp_path / "none", QUIET, "--format", "swin_ssl,")
    assert none.exit_code == 1
    assert "fits none of these formats" in none.output


def test_several_formats_can_be_tried_dry(tmp_path, run):
    done = call("export", run, "--out", tmp_path / "out", "--format", "all", "--dry-run")
    assert done.exit_code == 0, done.output
    assert "name: encoder_folder" in done.output
    assert "name: nnunet" in done.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [(("--format", "all"), "--out"), (("--format", "a,b", "--out", "x"), "no format a, b")],
)
def test_what_is_asked_for_wrongly_is_explained(run, words, message):
    done = call("export", run, *words)
    assert done.exit_code in (1, 2)
    assert message in done.output


def test_a_signed_export_is_verified_until_it_changes(tmp_path, run):
    made = call("verify", "--new-key", tmp_path / "key")
    assert made.exit_code == 0, made.output
    assert "its fingerprint is" in made.output
    assert call("verify", "--new-key", tmp_path / "key").exit_code == 1
    out = tmp_path / "out"
    done = call("export", run, "--format", "encoder_folder", "--out", out, "--sign-with",
                tmp_path / "key", QUIET)  # fmt: skip
    assert done.exit_code == 0, done.output
    artefact = out / "encoder_folder"
    good = call("verify", artefact, "--public-key", tmp_path / "key.pub")
    assert good.exit_code == 0, good.output
    assert "6 of 6 files as they were exported; signed by the key you gave" in good.output
    with (artefact / "encoder.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"?")
    bad = call("verify", artefact)
    assert bad.exit_code == 1
    assert "encoder.safetensors: changed since it was exported" in bad.output


def test_verify_needs_a_folder_or_a_key_to_make(tmp_path):
    assert call("verify").exit_code == 2
    assert call("verify", tmp_path, "--new-key", tmp_path / "k").exit_code == 2
    missing = call("verify", tmp_path)
    assert missing.exit_code == 1
    assert "there is no SHA256SUMS" in missing.output
