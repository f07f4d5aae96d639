"""Artefacts and scans made to do harm: each is refused in words, and nothing of them is run.

Whatever would run leaves the file ``ran``; whatever would write elsewhere, ``outside``.
"""

import csv
import gzip
import json
import os
import pickle
import re
import shutil
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save
from typer.testing import CliRunner

from medssl.cli.main import app
from medssl.config.load import read_tree
from medssl.errors import MedSSLError, RejectedFileError
from medssl.export.check import check_artefact
from medssl.export.checksums import write_checksums
from medssl.export.export import ExportConfig
from medssl.io.nifti import read_nifti, write_nifti
from medssl.models.weights import load_encoder
from medssl.runs.folder import read_json, write_json
from medssl.training.task_model import load_task_model
from tests.export.bundles import bundle
from tests.export.encoders import exported, write_run
from tests.finetuned import affine, finetuned, phantom

GIGABYTES_10 = 10 * 2**30


class Payload:
    """Runs a command where it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.fixture
def ran(tmp_path):
    """The file that a payload would leave; looked for at the end of every test."""
    marker = tmp_path / "ran"
    yield marker
    assert not marker.exists()
    assert not (tmp_path / "outside").exists()


@pytest.fixture
def encoder(tmp_path):
    run = write_run(tmp_path / "run", "segresnet")
    return exported(run, tmp_path / "out", "encoder_folder")


@pytest.fixture
def copied_bundle(tmp_path):
    shutil.copytree(bundle(), tmp_path / "bundle_segmentation")
    return tmp_path / "bundle_segmentation"


def why_refused(folder):
    """What the check says of a folder whose list of digests was made anew by the attacker."""
    write_checksums(folder)
    found = check_artefact(folder)
    assert not found.good
    return "\n".join(found.lines())


def test_the_payload_does_run_where_it_is_let(tmp_path):
    pickle.loads(pickle.dumps(Payload(tmp_path / "ran")))  # noqa: S301  the test of the tests
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("place", ["initialize", "_requires_", "device", "network_def"])
def test_a_bundle_that_imports_is_refused_by_verify_and_never_evaluated(copied_bundle, ran, place):
    path = copied_bundle / "configs" / "inference.json"
    config = read_json(path)
    payload = f"$__import__('os').system('touch {ran}')"
    config[place] = ["$import os", payload] if place == "_requires_" else payload
    write_json(path, config)
    said = why_refused(copied_bundle)
    assert "configs/inference.json:" in said
    assert "reaches for" in said
    load_task_model(copied_bundle)  # what `medssl predict` reads: it has no eyes for the JSON


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        ("preprocessing", [{"_target_": "os.system", "command": "touch RAN"}], "os.system"),
        ("inferer", {"_target_": "SimpleInferer", "x": "$__import__('os').system('touch RAN')"},
         "never evaluated"),
        ("encoder", {"name": "os.path"}, "does not have"),
        ("task", {"name": "../../evil"}, "does not have"),
    ],
)  # fmt: skip
def test_predict_refuses_a_description_that_reaches_for_more(
    tmp_path, copied_bundle, ran, where, value, message
):
    path = copied_bundle / "models" / "model.json"
    about = read_json(path) | {where: value}
    path.write_text(json.dumps(about).replace("RAN", str(ran)))
    scan = tmp_path / "scan.nii.gz"
    scan.touch()
    arguments = ["predict", str(copied_bundle), str(scan), "--out", str(tmp_path / "masks")]
    result = CliRunner().invoke(app, [*arguments, "tracking.enabled=false"])
    assert result.exit_code == 1
    assert "Traceback" not in result.output
    assert message in result.output


def test_a_pickle_named_safetensors_is_refused(encoder, ran):
    (encoder / "encoder.safetensors").write_bytes(pickle.dumps(Payload(ran)))
    assert "is a pickle named as safetensors" in why_refused(encoder)
    with pytest.raises(MedSSLError, match="cannot be read"):
        load_encoder(encoder)


def test_a_pickled_model_of_a_bundle_is_refused(copied_bundle, ran):
    torch.save({"w": Payload(ran)}, copied_bundle / "models" / "model.pt")
    assert "model.pt: holds more than tensors" in why_refused(copied_bundle)
    (copied_bundle / "models" / "model.pt").write_bytes(pickle.dumps(Payload(ran)))
    assert "model.pt: is a pickle and no archive of tensors" in why_refused(copied_bundle)
    (copied_bundle / "models" / "model.pt").rename(copied_bundle / "models" / "weights")
    assert "weights: is a pickle, which runs code" in why_refused(copied_bundle)


def test_weights_that_were_exchanged_are_refused_by_predict(copied_bundle, ran):
    (copied_bundle / "models" / "model.safetensors").write_bytes(pickle.dumps(Payload(ran)))
    with pytest.raises(MedSSLError, match=r"is not the file that model\.json describes"):
        load_task_model(copied_bundle)


@pytest.mark.parametrize("name", ["encoder.safetensors", "config.json"])
def test_a_truncated_file_is_refused(encoder, ran, name):
    path = encoder / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert f"{name}: changed since it was exported" in check_artefact(encoder).lines()
    assert f"{name}:" in why_refused(encoder)
    with pytest.raises(MedSSLError, match="cannot be read"):
        load_encoder(encoder)


def test_a_truncated_checkpoint_is_refused(copied_bundle, ran):
    path = copied_bundle / "models" / "model.pt"
    path.write_bytes(path.read_bytes()[:-2000])
    assert "model.pt: is no whole archive of tensors" in why_refused(copied_bundle)


def test_a_safetensors_header_of_ten_gigabytes_is_refused(encoder, ran):
    path = encoder / "encoder.safetensors"
    path.write_bytes(struct.pack("<Q", GIGABYTES_10) + b"{}")
    assert f"announces a header of {GIGABYTES_10} bytes, the file has 10" in why_refused(encoder)
    with pytest.raises(MedSSLError, match="cannot be read"):
        load_encoder(encoder)


def test_a_tensor_of_ten_gigabytes_that_is_not_there_is_refused(encoder, ran):
    about = {"w": {"dtype": "U8", "shape": [GIGABYTES_10], "data_offsets": [0, GIGABYTES_10]}}
    header = json.dumps(about).encode()
    path = encoder / "encoder.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"0" * 16)
    assert "is no whole safetensors file" in why_refused(encoder)
    with pytest.raises(MedSSLError, match="cannot be read"):
        load_encoder(encoder)


@pytest.fixture(params=["huge.nii", "huge.nii.gz"])
def huge(tmp_path, request):
    """A scan of a few bytes that says that 10 GiB of voxels follow."""
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, 2048, 2048, 1280, 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, 4, 16)
    struct.pack_into("<8f", header, 76, 1, 1, 1, 1, 0, 0, 0, 0)
    struct.pack_into("<f", header, 108, 352)
    struct.pack_into("<2h", header, 252, 1, 1)
    for row in range(3):
        struct.pack_into("<f", header, 280 + 20 * row, 1)
    header[344:348] = b"n+1\0"
    content = bytes(header) + bytes(1000)
    path = tmp_path / request.param
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


ANNOUNCED = (
    "The header announces 10240 MiB of voxels, more than the 4096 MiB allowed. If it is real, "
    "raise `max_volume_mib`."
)


def test_a_nifti_header_of_ten_gigabytes_is_refused(huge, ran):
    with pytest.raises(RejectedFileError) as error:
        read_nifti(huge)
    assert error.value.problem == ANNOUNCED


def memory_mib(what):
    """Return VmRSS, what this process has, or VmHWM, the most that it had."""
    (line,) = (
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what)
    )
    return int(line.split()[1]) / 1024


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="takes Linux's /proc")
def test_predict_says_so_and_takes_no_memory_for_it(tmp_path, huge, ran):
    model, small = finetuned() / "pretrained", tmp_path / "small.nii.gz"
    write_nifti(phantom(0)[0], affine(), small)

    def predicted(*scans, out):
        words = ["predict", model, *scans, "--out", tmp_path / out, "tracking.enabled=false"]
        return CliRunner().invoke(app, [str(word) for word in words])

    assert predicted(small, out="first").exit_code == 0  # what a first call imports is there
    Path("/proc/self/clear_refs").write_text("5")  # the most so far is what there is now
    before_mib = memory_mib("VmRSS")
    result = predicted(huge, small, out="out")
    assert memory_mib("VmHWM") - before_mib < 200
    assert (result.exit_code, "Traceback" in result.output) == (0, False)
    assert re.findall(r"^  (\w+) +(.+)$", result.output, re.MULTILINE)[:4] == [
        ("inputs", "2"), ("predicted", "1"), ("refused", "1"), ("refused_because", "too_large (1)"),
    ]  # fmt: skip
    with (tmp_path / "out" / "predictions.csv").open(newline="") as file:
        refused, fine = csv.DictReader(file)
    assert (refused["outcome"], refused["reason"]) == ("refused", ANNOUNCED)
    assert fine["outcome"] == "predicted"


def test_an_archive_that_unpacks_elsewhere_or_swells_is_refused(encoder, ran):
    with zipfile.ZipFile(encoder / "model.pt", "w") as archive:
        archive.writestr("../outside", b"x")
    assert "model.pt: holds '../outside', which would be unpacked elsewhere" in why_refused(encoder)
    with zipfile.ZipFile(encoder / "model.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(2**28))
    assert "bytes unpacked, and has" in why_refused(encoder)


def repacked(path, changes):
    """Write an archive again, with other contents of some members."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    root = next(iter(members)).split("/")[0]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (members | {f"{root}/{k}": v for k, v in changes.items()}).items():
            archive.writestr(name, content)


@pytest.mark.parametrize("place", ["data/constants/custom_obj_0", "data/sample_inputs/model.pt"])
def test_a_pickle_in_a_program_is_refused(encoder, ran, place):
    program = torch.export.export(torch.nn.Linear(2, 2), (torch.zeros(1, 2),))
    program.example_inputs = None
    path = encoder / "model.pt2"
    torch.export.save(program, path)
    write_checksums(encoder)
    assert check_artefact(encoder).good
    repacked(path, {place: pickle.dumps(Payload(ran))})
    assert f"{place}, which runs code when it is opened" in why_refused(encoder)


@pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated:DeprecationWarning")
@pytest.mark.parametrize("name", ["model.ts", "model.pt"])
@pytest.mark.parametrize("protocol", [2, 4])
def test_a_call_in_a_torchscript_archive_is_refused(encoder, ran, name, protocol):
    path = encoder / name
    torch.jit.script(torch.nn.Sequential(torch.nn.Conv3d(1, 2, 1), torch.nn.ReLU())).save(path)
    write_checksums(encoder)
    assert check_artefact(encoder).good
    repacked(path, {"constants.pkl": pickle.dumps(Payload(ran), protocol)})
    calls = "posix.system" if protocol == 2 else "something by STACK_GLOBAL"
    assert f"{name}: holds a pickle that would call {calls}" in why_refused(encoder)
    path.write_bytes(path.read_bytes()[:-2000])
    assert f"{name}: is no whole archive" in why_refused(encoder)


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system", "!!python/name:os.system"])
def test_yaml_with_pythons_tags_is_refused(tmp_path, encoder, ran, tag):
    text = f"run: {tag} ['touch {ran}']\n"
    (encoder / "configs").mkdir()
    (encoder / "configs" / "inference.yaml").write_text(text)
    assert "inference.yaml: cannot be read (ConstructorError)" in why_refused(encoder)
    given = tmp_path / "export.yaml"
    given.write_text(text)
    with pytest.raises(MedSSLError):
        read_tree(given, ExportConfig)


def test_links_out_of_the_folder_are_not_followed(tmp_path, encoder, ran):
    secret = tmp_path / "secret"
    secret.write_bytes(save({"w": np.zeros(2)}))
    (encoder / "encoder.safetensors").unlink()
    (encoder / "encoder.safetensors").symlink_to(secret)
    lines = check_artefact(encoder).lines()
    assert "encoder.safetensors: missing" in lines
    assert "encoder.safetensors: added since it was exported" in lines
