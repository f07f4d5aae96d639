"""Many files are looked into by several processes, and the result is that of one."""

import os
import re
import signal
from dataclasses import dataclass, field

import pytest

from medssl.ingest import look
from medssl.ingest.look import BIDS_PATIENT, Looking, NiftiLabels, look_into, look_into_all
from medssl.io.deidentify import Pseudonymizer
from medssl.io.limits import Limits
from medssl.io.sources.folder import list_files
from medssl.runs import progress
from tests import fuzz

KEY = Pseudonymizer(b"k" * 32)
LOOKING = Looking(pseudonymizer=KEY, limits=Limits(), exclude=("*_7*",))


@pytest.fixture
def refs(tmp_path, monkeypatch):
    monkeypatch.setattr(look, "_FEW_FILES", 10)
    monkeypatch.setattr(look, "_FILES_AT_ONCE", 7)
    fuzz.write(tmp_path / "in", 60, seed=1)
    return list_files([tmp_path / "in"], KEY)


def test_the_result_does_not_depend_on_who_looks(refs):
    alone = look_into(LOOKING, refs)
    assert list(look_into_all(LOOKING, refs, workers=2)) == alone
    assert [ref for ref, _ in alone] == refs
    kinds = {(bool(seen.headers), seen.is_nifti, seen.refused is None) for _, seen in alone}
    assert kinds == {(True, False, True), (False, True, True), (False, False, False)}


@dataclass(frozen=True)
class Killer(Pseudonymizer):
    """Ends the process that asks for a pseudonym, unless it is the first one."""

    first: int = field(default_factory=os.getpid)

    def instance_key(self, identifier):
        if os.getpid() != self.first:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().instance_key(identifier)


def test_files_of_a_worker_that_was_killed_are_looked_into_here(refs):
    killing = Looking(pseudonymizer=Killer(b"k" * 32), limits=Limits(), exclude=("*_7*",))
    assert list(look_into_all(killing, refs, workers=2)) == look_into(LOOKING, refs)


@pytest.mark.parametrize("workers", [1, 2])
def test_progress_counts_every_file(refs, workers, monkeypatch):
    done = []

    class Reporter:
        started = advanced = staticmethod(lambda task: None)

        @staticmethod
        def finished(task):
            done.append((task.done, task.total))

    monkeypatch.setattr(progress, "_reporter", Reporter())
    list(look_into_all(LOOKING, refs, workers=workers))
    assert done == [(len(refs), len(refs))]


def test_nifti_labels_come_from_names(tmp_path):
    (tmp_path / "sub-07").mkdir()
    for name in ("sub-07/ct.nii.gz", "other.nii.gz"):
        (tmp_path / name).touch()
    of = {ref.name: ref for ref in list_files([tmp_path], KEY)}
    labels = NiftiLabels(patient=re.compile(BIDS_PATIENT), modalities={"*/ct*": "CT", "*": "MR"})
    assert [labels.modality(of[name]) for name in ("sub-07/ct.nii.gz", "other.nii.gz")] == [
        "CT",
        "MR",
    ]
    assert labels.keys(of["sub-07/ct.nii.gz"], KEY).patient_known
    assert not labels.keys(of["other.nii.gz"], KEY).patient_known
