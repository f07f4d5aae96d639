"""From a file that was sent to what is sent back."""

import io
import json
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from medssl import __version__
from medssl.errors import RejectedFileError
from medssl.inference.outputs.base import Output
from medssl.inference.outputs.json import facts
from medssl.inference.predict import predict_scan
from medssl.inference.predicted import Predicted
from medssl.inference.predictor import Predictor
from medssl.inference.scans import Scan, ScanReader
from medssl.inference.sources import Source
from medssl.serving.refusals import BAD_REQUEST, UNUSABLE, RefusalError

JSON = "json"
_HOSTILE = {
    "unsafe_member", "duplicate_member", "nested_archive", "decompression_bomb",
    "archive_too_large", "too_many_members", "encrypted_member", "damaged_archive",
}  # fmt: skip
_MEDIA = {".gz": "application/gzip", ".dcm": "application/dicom", ".html": "text/html"}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a caller receives."""

    content: bytes
    media_type: str
    file_name: str
    """Ours: it holds nothing of what the scan was called."""
    headers: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Answerer:
    """One model, and what its answers are written as."""

    predictor: Predictor
    outputs: Mapping[str, Output]
    """By name; the first is the default."""

    def kind(self, wanted: str | None) -> str:
        """Return what an answer is written as; of whole volumes always JSON.

        Raises:
            RefusalError: ``wanted`` is none of the forms this service writes.
        """
        known = [*self.outputs, JSON] if self.predictor.task.kind == "segmentation" else [JSON]
        if wanted is None:
            return known[0]
        if wanted not in known:
            hint = f"ask for one of: {', '.join(known)}"
            raise RefusalError(
                BAD_REQUEST, "unknown_form", "answers have no such form here", hint=hint
            )
        return wanted

    def answer(self, reader: ScanReader, path: Path, room: Path, kind: str) -> Answer:
        """Return what the model says of the one scan at ``path``.

        Args:
            reader: How scans are read.
            path: A file, or a folder of them.
            room: An empty folder for what is written; it is emptied again.
            kind: A form that ``kind`` returned.

        Raises:
            RefusalError: There is no scan, or not only one, or the archive is hostile.
        """
        predicted: Predicted | None = None
        refused, content, file_name = list[RejectedFileError](), b"", "answer.json"
        for found in reader.read(Source(number=1, path=path, stem="scan")):
            if isinstance(found, RejectedFileError):
                _refuse_hostile(found)
                refused.append(found)
                continue
            if predicted is not None:
                hint = "send them one by one"
                raise RefusalError(
                    UNUSABLE, "several_scans", "there is more than one scan", hint=hint
                )
            predicted = self._predicted(found)
            if kind != JSON:  # while the files of a series lie where it was read from
                content, file_name = self._written(predicted, room, kind)
        if predicted is None:
            raise _no_scan(refused)
        if kind == JSON:
            content = json.dumps(facts(predicted)).encode()
        headers = {
            "Medssl-Version": __version__,
            "Medssl-Model": self.predictor.description.weights_digest,
            "Medssl-Warnings": json.dumps(predicted.warnings),
        }
        media = "application/json" if kind == JSON else _media_type(file_name)
        return Answer(content=content, media_type=media, file_name=file_name, headers=headers)

    def _predicted(self, scan: Scan) -> Predicted:
        try:
            return predict_scan(self.predictor, 1, "scan", scan)
        except RejectedFileError as error:
            raise _no_scan([error]) from None

    def _written(self, predicted: Predicted, room: Path, kind: str) -> tuple[bytes, str]:
        try:
            paths = list(self.outputs[kind].write(predicted, room))
            packed = len(paths) != 1
            content = _zipped(paths) if packed else paths[0].read_bytes()
            return content, "answer.zip" if packed else paths[0].name
        except RejectedFileError as error:
            raise _no_scan([error]) from None
        finally:
            shutil.rmtree(room, ignore_errors=True)


def _refuse_hostile(error: RejectedFileError) -> None:
    if error.code in _HOSTILE:
        hint = "send a plain zip of the files of one study"
        raise RefusalError(UNUSABLE, error.code, error.problem, hint=hint)


def _no_scan(refused: list[RejectedFileError]) -> RefusalError:
    telling = [error for error in refused if not error.skipped] or refused
    problem = "; ".join(dict.fromkeys(error.problem for error in telling))
    hint = "send a NIfTI file, or a zip of the DICOM files of one series that the model is for"
    return RefusalError(UNUSABLE, telling[0].code, problem, hint=hint)


def _media_type(file_name: str) -> str:
    suffix = Path(file_name).suffix
    return "application/zip" if suffix == ".zip" else _MEDIA.get(suffix, "application/octet-stream")


def _zipped(paths: list[Path]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path in paths:
            archive.write(path, path.name)
    return packed.getvalue()
