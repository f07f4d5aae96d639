"""No identifier of the sources may stand anywhere in a library but in its one private table."""

import dataclasses
import json
import logging
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import blosc2
import pyarrow.parquet as pq
import pydicom
import pytest
import yaml
from pydicom.datadict import keyword_for_tag

from medssl.ingest.ingest import ingest
from medssl.privacy.audit import AuditRequest, audit
from medssl.runs.tracking import TrackingConfig
from tests import bad_files, canaries, phantoms

PERSONAL_VRS = {"PN", "DA", "DT", "UI", "LO", "ST", "LT", "UT", "AS"}
KEYWORDS = {"PatientID", "AccessionNumber", "StudyID", "PatientAddress", "PatientTelephoneNumbers"}
OWN_WORDS = {"localizer", "siemens"}
"""Texts in the shipped headers that are words of medssl's own vocabulary."""
SHORTEST = 6
"""Shorter texts (a sex, a kernel) turn up by chance in any binary file."""


def identifiers(paths):
    """Return every text of the headers that could point to a person, and the parts of names."""
    found = set()

    def note(dataset, element):
        personal = element.VR in PERSONAL_VRS or element.keyword in KEYWORDS
        if personal and element.keyword not in {"SOPClassUID", "TransferSyntaxUID"}:
            values = element.value if element.VM > 1 else [element.value]
            for value in map(str, values):
                found.add(value)
                found.update(re.split(r"[\^ ,]+", value) if element.VR == "PN" else [])

    for path in paths:
        try:
            pydicom.dcmread(path, stop_before_pixels=True).walk(note)
        except pydicom.errors.InvalidDicomError:
            continue
    standard = {value for value in found if value.startswith("1.2.840.10008.")}
    return {t for t in found - standard if len(t) >= SHORTEST and t.lower() not in OWN_WORDS}


def everything_in(folder, private):
    """Yield a name and the bytes of every file, also of what is compressed inside."""
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path in private:
            continue
        yield path.relative_to(folder).as_posix(), path.read_bytes()
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            yield f"{path.name}, rows", repr(table.to_pylist()).encode()
            yield f"{path.name}, schema", str(table.schema).encode()
        if path.suffix == ".b2nd":
            meta = blosc2.open(str(path), mode="r").schunk.meta
            yield f"{path.name}, meta", repr({key: meta[key] for key in meta}).encode()


def search(folder, private, texts):
    wanted = {text: text.lower().encode() for text in texts}
    return [
        (name, text)
        for name, content in everything_in(folder, private)
        for text, needle in wanted.items()
        if needle in content.lower() or needle in name.lower().encode()
    ]


@pytest.fixture
def private(configure):
    def paths(library):
        return {library / "private" / "files.csv", library / "private" / "config.yaml"}

    return paths


def test_the_search_finds_what_is_planted(shipped, tmp_path):
    headers = [path for path in (shipped / "dicom").rglob("*") if path.is_file()]
    texts = identifiers(headers)
    canaries = json.loads((shipped / "canaries.json").read_text())
    assert len(texts) > 100
    (tmp_path / "leak.log").write_text(f"could not read {canaries['strings'][0]}")
    assert search(tmp_path, set(), texts)


def test_no_identifier_reaches_library_logs_or_tracking(
    shipped, tmp_path, configure, private, caplog, capfd
):
    caplog.set_level(logging.DEBUG)
    config = configure(
        shipped / "dicom",
        shipped / "trouble",
        exclude=("*Quillfeather*",),
        modalities={"*Quillfeather*": "MR"},
        patient_pattern="(?P<patient>Quillfeather)",
        tracking=TrackingConfig(),  # its default: store and artifacts beside the library
    )
    result = ingest(config)
    assert result.summary["volumes"] >= 3
    headers = [
        path
        for part in ("dicom", "trouble")
        for path in (shipped / part).rglob("*")
        if path.is_file() and path.suffix not in {".gz", ".txt"} and path.stat().st_size
    ]
    texts = identifiers(headers)
    canaries = json.loads((shipped / "canaries.json").read_text())
    texts |= set(canaries["strings"]) | set(canaries["uids"])
    texts |= {path.name for path in headers if len(path.stem) >= SHORTEST} | {"Quillfeather"}
    assert (tmp_path / "mlflow.db").is_file()
    assert list((tmp_path / "mlartifacts").rglob("quarantine.csv"))
    assert search(tmp_path, private(config.library), texts) == []
    shown = capfd.readouterr()
    spoken = (caplog.text + shown.out + shown.err + json.dumps(result.summary)).lower()
    assert [text for text in texts if text.lower() in spoken] == []


def test_damaged_files_do_not_make_anybody_quote_them(tmp_path, configure, private, caplog, capfd):
    """Every way of being refused, with a name in the header, the file names and the folders."""
    caplog.set_level(logging.DEBUG)
    source = tmp_path / "WINTERBOTTOM^AGATHA"
    for kind, code, build in bad_files.CASES:
        folder = source / f"{kind}-{code}"
        build(folder)
        for path in sorted(folder.iterdir()):
            if path.is_file() and kind == "dicom":
                _name(path)
    config = configure(source)
    planted = [path for path in source.rglob("*") if path.is_file() and path.stat().st_size]
    assert sum(b"Quillfeather" in path.read_bytes() for path in planted) > 100
    ingest(config)
    texts = {"winterbottom", "agatha", "quillfeather", "19470311"}
    assert search(config.library, private(config.library), texts) == []
    shown = capfd.readouterr()
    spoken = (caplog.text + shown.out + shown.err).lower()
    assert [text for text in texts if text in spoken] == []


EXEMPT = {"files.csv", "config.yaml", "parcels.jsonl"}
"""What may hold paths and names, in folders called private, readable by their owner only."""

DEADLY_FOLDER, DEADLY_FILES = "BITTERN_RUTH_9931", 4
DEADLY = f"""
import multiprocessing, os, signal, sys
from medssl.cli.main import main

opened = []

def die(event, args):
    if event == "open" and "{DEADLY_FOLDER}" in str(args[0]):
        opened.append(args)
        if len(opened) > 1 and multiprocessing.parent_process() is not None:
            os.kill(os.getpid(), signal.SIGSEGV)

sys.addaudithook(die)
if __name__ == "__main__":
    main()
"""
"""The command itself, whose workers crash over one series, with what they read in memory."""


@pytest.fixture(scope="module")
def produced(tmp_path_factory):
    """Return (source, work, key): canaries and bad files, and what the stages made of them."""
    folder = tmp_path_factory.mktemp("canaries")
    source, work, key = folder / "source", folder / "work", folder / "key"
    work.mkdir()
    for number in (8, 7, 6):
        canaries.write(
            source / str(number),
            (40, 36, 24),
            edit=lambda ds, _, n=number: setattr(ds, "PatientID", f"MRN-7712045{n}"),
            origin_mm=(-20.0, 31.0, 40.0 * number),
        )
    for kind, code, build in bad_files.CASES:
        if kind == "dicom":
            build(source / f"WINTERBOTTOM-{code}")
            for path in sorted((source / f"WINTERBOTTOM-{code}").iterdir()):
                _name(path)
    canaries.write(
        source / DEADLY_FOLDER,
        (40, 36, DEADLY_FILES),
        edit=lambda ds, _: setattr(ds, "PatientID", "MRN-77120459"),
        origin_mm=(-20.0, 31.0, 900.0),
    )
    (folder / "deadly.py").write_text(DEADLY)
    pipeline = folder / "pipeline.yaml"
    stages = {
        "ingest": {"sources": [str(source)], "key_file": str(key), "create_key": True},
        "curate": {"rules": []},
        "prepare": {"workers": 1},
    }
    pipeline.write_text(yaml.safe_dump({"work": str(work), **stages}))
    _run(folder, "run", pipeline)
    # nobody answers there: the record of the run goes to its spool
    dead = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    _run(folder, "deidentify", source, work / "clean", "--key-file", key, **dead)
    return source, work, key


def _run(folder, *words, **environment):
    """Run a command as a person does; what it says and leaves is kept with what it makes."""
    work = folder / "work"
    (work / "temporary").mkdir(exist_ok=True)
    here = {"PYTHONPATH": str(Path(__file__).parents[2]), "TMPDIR": str(work / "temporary")}
    done = subprocess.run(
        [sys.executable, folder / "deadly.py", "-v", "--log-file", work / "log.jsonl", *words],
        cwd=work,
        env={**os.environ, "PYTHONFAULTHANDLER": "1", **here, **environment},
        preexec_fn=_allow_core_dumps,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    (work / f"{words[0]}.out").write_bytes(done.stdout + b"\n" + done.stderr)


def _allow_core_dumps():
    """Ask, as some machines do, for the memory of whatever crashes."""
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (most, most))


def _private_files(work):
    return {path for path in work.rglob("private/*") if path.is_file()}


def test_a_raw_search_finds_every_canary_in_the_source_and_none_in_what_is_produced(produced):
    source, work, _ = produced
    assert len(canaries.PLANTED) == 37
    assert {text for _, text in search(source, set(), canaries.everything())} == (
        canaries.everything()
    )
    for made in ("library/catalog.parquet", "library/quarantine.csv", "store", "log.jsonl"):
        assert (work / made).exists(), made
    assert list(work.rglob("*.html"))
    assert list(work.rglob("mlflow.db"))
    assert list((work / "clean" / "tracking").rglob("run.json"))  # the spool
    assert list((work / "clean" / "images").rglob("*.dcm"))
    texts = canaries.everything() | {"WINTERBOTTOM", "AGATHA", "19470311", "1947-03-11"}
    texts |= {DEADLY_FOLDER, "BITTERN"}
    assert search(work, _private_files(work), texts) == []


def test_a_crash_of_a_worker_leaves_a_row_and_nothing_of_what_it_read(produced):
    """The search above covers what crashed workers say, log, and leave; here they did crash."""
    _, work, _ = produced
    for table in ("library/quarantine.csv", "clean/files.csv"):
        assert (work / table).read_text().count("decoder_crashed") == DEADLY_FILES, table
    for said in ("run.out", "deidentify.out"):
        assert b"Fatal Python error: Segmentation fault" in (work / said).read_bytes()
    assert list(work.glob("core*")) == []


def test_only_named_files_are_exempt_and_only_their_owner_may_read_them(produced):
    _, work, _ = produced
    private = _private_files(work)
    assert {path.relative_to(work).as_posix() for path in private} >= {
        "library/private/files.csv",
        "library/private/config.yaml",
        "clean/private/config.yaml",
    }
    assert {path.name for path in private} <= EXEMPT
    for path in private:
        assert path.stat().st_mode & 0o077 == 0
        assert path.parent.stat().st_mode & 0o077 == 0


def test_the_audit_agrees_and_points_at_the_private_files_alone(produced):
    source, work, key = produced
    request = AuditRequest(work, (source,), key_file=key)
    found = {finding.file for finding in audit(request).findings}
    assert "library/private/files.csv" in found
    assert found <= {path.relative_to(work).as_posix() for path in _private_files(work)}
    report = audit(dataclasses.replace(request, exempt=("*/private/*",)))
    assert report.findings == []
    assert report.not_searched == {}
    assert report.identifiers > len(canaries.everything())


def _name(path: Path):
    """Plant a name in the header, wherever it can still be planted."""
    content = path.read_bytes()
    planted = content.replace(b"Phantom^Analytic", b"Quillfeather^Ida").replace(b"P-1 ", b"QUIL")
    path.write_bytes(planted)
    path.rename(path.with_name(f"WINTERBOTTOM-{path.name}"))


def test_only_the_owner_may_read_the_private_table(tmp_path, configure):
    affine = phantoms.affine_ras()
    phantoms.write_nifti(tmp_path / "in" / "v.nii", phantoms.phantom(affine), affine)
    config = configure(tmp_path / "in")
    ingest(config)
    for path in (config.library / "private").iterdir():
        assert path.stat().st_mode & 0o077 == 0
    assert (config.library / "private").stat().st_mode & 0o077 == 0


def test_identifiers_are_named_at_the_doors_only():
    """The words may stand where headers are read or cleaned, and nowhere else."""
    root = Path(__file__).parents[2] / "medssl"
    allowed = {
        "io/deidentify.py",
        "io/dicom/acquisition.py",
        "io/dicom/derived.py",  # what is derived from a study carries its header
        "io/dicom/headers.py",
        "io/dicom/vocabulary.py",
        "privacy/allow_list.py",
        "privacy/header.py",
        "reports/structured.py",  # what a structured report's own header says is removed from it
    }
    words = re.compile(r"patient_?id\b|patient_?name|PatientBirth|AccessionNumber", re.IGNORECASE)
    found = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        if words.search(path.read_text(encoding="utf-8"))
    }
    assert found <= allowed
    assert keyword_for_tag(0x00100020) == "PatientID"
